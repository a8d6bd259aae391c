// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// resolved runs systemd-resolved until the test ends.
func resolved(t *testing.T) {
	t.Helper()
	conf := "[Resolve]\nDNS=" + router4 + "\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n"
	if err := os.WriteFile("/etc/systemd/resolved.conf", []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/systemd/resolve", 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"LD_LIBRARY_PATH=" + unpacked("usr/lib/x86_64-linux-gnu/systemd"), "SYSTEMD_LOG_TARGET=console"}
	daemon(t, "/", env, unpacked("lib/systemd/systemd-resolved"))
	testserver.Eventually(t, "systemd-resolved listens", func() bool { return listens("127.0.0.53:53") })
}

// nssResolve has glibc ask systemd-resolved through its module.
func nssResolve(t *testing.T) {
	t.Helper()
	resolved(t)
	rebind(t, "/etc/nsswitch.conf", "hosts: files resolve [!UNAVAIL=return]\n")
}

// nscd runs glibc's cache until the test ends.
func nscd(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll("/run/nscd", 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "nscd.conf")
	lines := "enable-cache hosts yes\npositive-time-to-live hosts 3600\nenable-cache passwd no\nenable-cache group no\n" +
		"enable-cache services no\nenable-cache netgroup no\npersistent hosts no\n"
	if err := os.WriteFile(conf, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon(t, "/", nil, unpacked("usr/sbin/nscd"), "-F", "-f", conf)
	testserver.Eventually(t, "nscd listens", func() bool { _, err := os.Stat("/run/nscd/socket"); return err == nil })
	t.Cleanup(func() { os.RemoveAll("/run/nscd") })
}
