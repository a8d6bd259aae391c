// SPDX-License-Identifier: Apache-2.0

//go:build linux

package testbed

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// setClock makes the wall clock of a process that has just started differ from the host's. Programs
// in Go ask for the time in the vDSO, the page of code that the kernel lends to each process. The
// function that they call there is replaced in this process alone.
func setClock(process *os.Process, ahead time.Duration) error {
	if runtime.GOARCH != "amd64" {
		return errors.ErrUnsupported
	}
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for stopped := false; !stopped; { // takes no time
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", process.Pid))
		if err != nil {
			return err
		}
		stopped = bytes.Contains(status, []byte("\nState:\tT"))
	}
	return errors.Join(replaceClock(process.Pid, ahead), process.Signal(syscall.SIGCONT))
}

// replaceClock writes a clock into a stopped process.
func replaceClock(pid int, ahead time.Duration) error {
	offset, err := clockOffset()
	if err != nil {
		return err
	}
	base, err := vdsoBase(strconv.Itoa(pid))
	if err != nil {
		return err
	}
	code := []byte{
		0xb8, 0xe4, 0, 0, 0, // mov eax, SYS_clock_gettime
		0x0f, 0x05, // syscall
		0x85, 0xff, // test edi, edi: is it CLOCK_REALTIME?
		0x75, 0x07, // jne over the next instruction
		0x48, 0x81, 0x06, // add qword [rsi], the seconds
	}
	code = binary.LittleEndian.AppendUint32(code, uint32(int32(ahead.Seconds())))
	code = append(code, 0xc3) // ret
	memory, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = memory.WriteAt(code, int64(base+offset))
	return errors.Join(err, memory.Close())
}

// clockOffset returns the offset of the clock in the vDSO. It is the same in every process.
func clockOffset() (uint64, error) {
	base, err := vdsoBase("self")
	if err != nil {
		return 0, err
	}
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		return 0, err
	}
	defer memory.Close() //nolint:errcheck // only read
	// An error means its end.
	image, _ := io.ReadAll(io.NewSectionReader(memory, int64(base), 1<<20))
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return 0, err
	}
	symbols, err := file.DynamicSymbols()
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			return s.Value, nil
		}
	}
	return 0, fmt.Errorf("the vDSO has no clock: %w", err)
}

// vdsoBase returns the address of the vDSO in a process, from auxv(3).
func vdsoBase(pid string) (uint64, error) {
	vector, err := os.ReadFile("/proc/" + pid + "/auxv") //nolint:gosec // a process of ours
	if err != nil {
		return 0, err
	}
	const sysinfoHeader = 33 // AT_SYSINFO_EHDR
	for ; len(vector) >= 16; vector = vector[16:] {
		if binary.NativeEndian.Uint64(vector) == sysinfoHeader {
			return binary.NativeEndian.Uint64(vector[8:]), nil
		}
	}
	return 0, fmt.Errorf("process %s has no vDSO: %w", pid, syscall.ENOENT)
}
