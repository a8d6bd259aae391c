// SPDX-License-Identifier: Apache-2.0

// Package netns has what programs need that run in network namespaces of their own.
//
//	apart_linux.go    runs this program again in a namespace of its own
//	network_linux.go  a network of several namespaces, with faults
//	host_linux.go     one of them
//	device_linux.go   devices, as ioctl(2) knows them
package netns

// LoopbackUp switches on the loopback interface of the calling thread's network namespace. In a new
// namespace it is off. It needs CAP_NET_ADMIN there.
func LoopbackUp() error { return configure("lo", up) }
