// SPDX-License-Identifier: Apache-2.0

//go:build linux

package interop

import (
	"encoding/pem"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// browser opens a URL and waits until the page and its frames are loaded.
type browser func(t *testing.T, url string)

func (b browser) client(name string) client {
	return client{name: name, look: b.aliases, keep: b.chain, goesOn: b.goesOn}
}

// frames opens a page of URLs.
func (b browser) frames(t *testing.T, of ...string) {
	t.Helper()
	b(t, "http://start.example.org/frames?"+url.Values{"of": of}.Encode())
}

func (b browser) aliases(t *testing.T, name string, times int) [][]netip.Addr {
	t.Helper()
	seen.take(name)
	b.frames(t, below(name, "http://n%d.%s/", times)...)
	return each(seen.take(name))
}

func (b browser) chain(t *testing.T, name string, times int) [][]netip.Addr {
	t.Helper()
	seen.take(name)
	b.frames(t, fmt.Sprintf("http://%s/chain/%d", name, times-1))
	return each(seen.take(name))
}

func (b browser) goesOn(t *testing.T, name string) bool {
	t.Helper()
	seen.take(name)
	of := below(name, "http://n%d.%s:"+fallbackPort+"/", len(memberSets["four"]))
	b.frames(t, of...)
	return len(seen.take(name)) == len(of)
}

// below returns URLs of so many names below one.
func below(name, format string, times int) (urls []string) {
	for n := range times {
		urls = append(urls, fmt.Sprintf(format, n, name))
	}
	return urls
}

func each(served []netip.AddrPort) (all [][]netip.Addr) {
	for _, at := range served {
		all = append(all, []netip.Addr{at.Addr()})
	}
	return all
}

// chromium runs with its defaults, without what only people at a screen need.
func chromium(t *testing.T, url string) {
	t.Helper()
	dir := t.TempDir()
	// Without the checks of local networks a page may hold frames of any address; certificates are
	// our own.
	run(t, []string{"HOME=" + dir}, "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--no-proxy-server", "--ignore-certificate-errors",
		"--disable-features=LocalNetworkAccessChecks,HttpsUpgrades", "--user-data-dir="+dir, "--timeout=60000", "--dump-dom", url)
}

// chromiumDoH asks over DoH alone.
func chromiumDoH(t *testing.T, url string) {
	t.Helper()
	const policies = "/etc/chromium/policies"
	defer os.RemoveAll(policies)
	write(t, filepath.Join(policies, "managed/doh.json"), fmt.Sprintf(`{"DnsOverHttpsMode": "secure", "DnsOverHttpsTemplates": %q}`, dohURL))
	chromium(t, url)
}

// firefoxPrefs keep Firefox from asking its makers and from trying https first, and let a page hold
// frames of any address.
var firefoxPrefs = []string{`"network.captive-portal-service.enabled", false`, `"network.connectivity-service.enabled", false`,
	`"services.settings.server", "data:,#remote-settings-dummy/v1"`, `"dom.security.https_first", false`, `"network.lna.blocking", false`}

// firefoxDoHPrefs have it ask over DoH alone, and take private addresses from there, as some
// members have.
var firefoxDoHPrefs = []string{`"network.trr.mode", 3`, fmt.Sprintf(`"network.trr.uri", %q`, dohURL), `"network.trr.allow-rfc1918", true`}

func firefox(t *testing.T, url string) { t.Helper(); firefoxWith(t, url) }

func firefoxDoH(t *testing.T, url string) { t.Helper(); firefoxWith(t, url, firefoxDoHPrefs...) }

// firefoxTargets does not demand that the target of an HTTPS record be where its name leads to
// already.
func firefoxTargets(t *testing.T, url string) {
	t.Helper()
	firefoxWith(t, url, append(firefoxDoHPrefs, `"network.dns.https_rr.check_record_with_cname", false`)...)
}

// firefoxWith runs Firefox with some preferences changed.
func firefoxWith(t *testing.T, url string, prefs ...string) {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority})))
	write(t, "/usr/share/firefox-esr/distribution/policies.json", fmt.Sprintf(`{"policies": {"Certificates": {"Install": [%q]}}}`, ca))
	var lines strings.Builder
	for _, pref := range slices.Concat(firefoxPrefs, prefs) {
		fmt.Fprintf(&lines, "user_pref(%s);\n", pref)
	}
	write(t, filepath.Join(dir, "user.js"), lines.String())
	run(t, []string{"HOME=" + dir}, "firefox-esr", "--headless", "--no-remote", "--profile", dir, "--screenshot", filepath.Join(dir, "page.png"), url)
}

// write writes a file, and makes its directory.
func write(t *testing.T, path, content string) {
	t.Helper()
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
