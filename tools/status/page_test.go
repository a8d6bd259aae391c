// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/seed-f1518d44/balance/internal/testserver"
)

// tab is a page in the browser, with all that went wrong in it.
type tab struct {
	t      *testing.T
	ctx    context.Context
	server *server

	sync.Mutex
	wrong []string
	dying bool // the server is about to end, so that requests fail
}

// open opens the page.
func open(t *testing.T, s *server, before ...chromedp.Action) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	t.Cleanup(cancel)
	ctx, stop := context.WithTimeout(ctx, 3*testserver.Patience)
	t.Cleanup(stop)
	p := &tab{t: t, ctx: ctx, server: s}
	chromedp.ListenTarget(ctx, p.note)
	p.run(append([]chromedp.Action{cdplog.Enable(), network.Enable(), page.BringToFront()}, before...)...)
	p.run(chromedp.Navigate(s.url("/")))
	t.Cleanup(p.isFine)
	return p
}

// note keeps what must not happen: a message on the console, for example about what the page's
// policy forbids, an exception, a request to another host.
func (p *tab) note(event any) {
	p.Lock()
	defer p.Unlock()
	switch event := event.(type) {
	case *cdplog.EventEntryAdded:
		if !p.dying {
			p.wrong = append(p.wrong, "log: "+event.Entry.Text)
		}
	case *runtime.EventConsoleAPICalled:
		p.wrong = append(p.wrong, fmt.Sprintf("console: %s", event.Type))
	case *runtime.EventExceptionThrown:
		p.wrong = append(p.wrong, event.ExceptionDetails.Error())
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(event.Request.URL); err != nil || u.Host != p.server.page {
			p.wrong = append(p.wrong, "request to "+event.Request.URL)
		}
	}
}

func (p *tab) isFine() {
	p.Lock()
	defer p.Unlock()
	for _, wrong := range p.wrong {
		p.t.Error(wrong)
	}
}

func (p *tab) run(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// value returns what an expression is in the page.
func value[T any](p *tab, expression string) (v T) {
	p.t.Helper()
	p.run(chromedp.Evaluate(expression, &v))
	return v
}

// waitUntil waits until an expression is true in the page.
func (p *tab) waitUntil(expression string) {
	p.t.Helper()
	testserver.Eventually(p.t, expression, func() bool { return value[bool](p, expression) })
}

// names returns the names that are shown, in their order.
func (p *tab) names() []string {
	p.t.Helper()
	return value[[]string](p, `[...document.querySelectorAll("article.name h3")].map((h) => h.textContent)`)
}

// live waits until the script shows some names.
func (p *tab) live(names int) {
	p.t.Helper()
	p.waitUntil(fmt.Sprintf(`document.querySelectorAll("article.name[data-key]").length === %[1]d && document.querySelectorAll("article.name").length === %[1]d`, names))
}

// picture saves a screenshot in the directory that the environment names, if it does.
func (p *tab) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("STATUS_PICTURES")
	if dir == "" {
		return
	}
	var png []byte
	p.run(chromedp.FullScreenshot(&png, 100))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// text of the article of app.example.org.
const app = `[...document.querySelectorAll("article.name")].find((a) => a.textContent.startsWith("app.example.org. A"))`

// A backend that dies goes to the top of its name with the reason, and comes back, while the page
// stays as it is.
func TestThePageIsLive(t *testing.T) {
	f := newFarm(t)
	s := start(t, f)
	s.use(4)
	s.waitFor(`"up":3`, `"down":3`)
	p := open(t, s)
	p.live(5)
	if got := p.names()[0]; got != "dead.example.org. A" {
		t.Errorf("%s is first, want dead.example.org. A: it fails open", got)
	}
	p.waitUntil(`document.title === "✕ 3 down · balance" && document.querySelector("#problems").textContent.includes("dead.example.org. A: every member is down")`)
	p.run(chromedp.Evaluate(`window.stayed = true; getSelection().selectAllChildren([...document.querySelectorAll("h3")].find((h) => h.textContent === "www.example.org. A"))`, nil))
	f.kill(1)
	p.waitUntil(app + `.querySelector("tbody tr").textContent.match(/^127.2.0.2.*down/) !== null`)
	p.waitUntil(app + `.textContent.includes("connection refused") && document.title === "✕ 4 down · balance"`)
	if got := p.names()[:2]; !slices.Equal(got, []string{"dead.example.org. A", "app.example.org. A"}) {
		t.Errorf("%q are first, want the one that fails open, then the one with a member down", got)
	}
	p.picture("down")
	f.revive(1)
	p.waitUntil(app + `.querySelectorAll(".verdict.up").length === 3`)
	if !value[bool](p, `window.stayed === true && getSelection().toString() === "www.example.org. A"`) {
		t.Error("the page was loaded again, or what was selected is not any more")
	}
	testserver.Write(t, s.overrides, f.addr(2)+" down until 2099-12-01T00:00:00Z # <b>disk</b> swap\n")
	p.waitUntil(app + `.textContent.includes("override: down, until 2099-12-01 00:00 UTC, “<b>disk</b> swap”")`)
	if value[bool](p, `document.querySelector("article b") !== null`) {
		t.Error("what an operator wrote became markup")
	}
	testserver.Write(t, s.overrides, "127.2.0.1 sideways\n")
	p.waitUntil(`document.querySelector("#problems").textContent.includes("unknown override \"sideways\"")`)
	p.picture("problems")
}

// The page says which process it is of, since when that runs, and how the last reload went.
func TestThePageSaysWhoseItIs(t *testing.T) {
	s := start(t, newFarm(t))
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, s)
	p.waitUntil(fmt.Sprintf(`document.querySelector("#process").textContent.match(/^%s · CoreDNS-[0-9.]+ balance-.* · started [0-9]+ s ago$/) !== null`, host))
	good, err := os.ReadFile(s.Corefile)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(corefile string) {
		testserver.Write(t, s.Corefile, corefile)
		if err := s.Cmd.Process.Signal(syscall.SIGUSR1); err != nil {
			t.Fatal(err)
		}
	}
	reload("nonsense {\n")
	p.waitUntil(`document.querySelector("#process").textContent.endsWith("ago: failed") && document.querySelector("#problems").textContent.includes("the last reload failed")`)
	reload(string(good) + "\n# the same\n")
	p.waitUntil(`document.querySelector("#process").textContent.match(/ · reloaded [0-9]+ s ago$/) !== null && !document.querySelector("#problems").textContent.includes("reload")`)
}

// A page whose server is gone says so, and is live again when the server is.
func TestALostServerIsSaid(t *testing.T) {
	s := start(t, newFarm(t))
	s.use(1)
	p := open(t, s)
	p.live(5)
	p.Lock()
	p.dying = true
	p.Unlock()
	s.Kill()
	p.waitUntil(`document.querySelector("#problems").textContent.includes("No answer from the server") && document.querySelector("#pulse").textContent.startsWith("lost")`)
	if n := len(p.names()); n != 5 {
		t.Errorf("%d names, want the 5 that were there", n)
	}
}

// press presses a key as a person does: the first handler decides what it writes.
func press(key string) chromedp.Action {
	return chromedp.Tasks{
		input.DispatchKeyEvent(input.KeyDown).WithKey(key).WithText(key),
		input.DispatchKeyEvent(input.KeyUp).WithKey(key),
	}
}

// All that the page does can be done with the keyboard alone.
func TestKeyboard(t *testing.T) {
	s := start(t, newFarm(t))
	s.use(1)
	s.waitFor(`"down":3`)
	p := open(t, s)
	p.live(5)
	p.run(press("/"), chromedp.KeyEvent("app 127.2.0.2"))
	p.live(1)
	if got := value[string](p, `document.querySelector("#found").textContent`); got != "1 of 5 names" {
		t.Errorf("it says %q, want 1 of 5 names", got)
	}
	if got := value[int](p, `document.querySelectorAll("article.name tbody tr:not(.note)").length`); got != 1 {
		t.Errorf("%d members fit, want 1", got)
	}
	if got := value[string](p, "location.hash"); got != "#q=app+127.2.0.2" {
		t.Errorf("the address has %q, want the filter in it", got)
	}
	p.run(chromedp.Reload())
	p.live(1)
	p.run(press("/"), chromedp.KeyEvent("nothing like that"))
	p.waitUntil(`document.querySelector("#names-list").textContent === "No name fits the filter."`)
	p.run(chromedp.KeyEvent(kb.Escape))
	p.live(5)
	p.run(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(" "))
	p.live(1) // only trouble
	p.run(chromedp.KeyEvent(" "))
	p.live(5)
	p.focusIsSeen()
	p.run(chromedp.Evaluate(`document.querySelector("#pause").focus()`, nil), chromedp.KeyEvent(kb.Enter))
	p.waitUntil(`document.querySelector("#pulse").textContent.startsWith("paused") && document.activeElement.id === "pause"`)
	p.run(press("p"))
	p.waitUntil(`document.querySelector("#pulse").textContent.startsWith("live")`)
}

// focusIsSeen goes through the page with Tab and checks that whatever has the focus is marked.
func (p *tab) focusIsSeen() {
	p.t.Helper()
	p.run(chromedp.Evaluate(`document.activeElement.blur(); window.scrollTo(0, 0)`, nil))
	var reached []string
	for range 12 {
		p.run(chromedp.KeyEvent(kb.Tab))
		reached = append(reached, value[string](p, `((e) => getComputedStyle(e).outlineStyle === "none" ? "unmarked " + e.outerHTML : e.id || e.className || e.pathname)(document.activeElement)`))
	}
	for _, want := range []string{"skip", "pause", "filter", "trouble", "/v1/status"} {
		if !slices.Contains(reached, want) {
			p.t.Errorf("Tab reaches %q, want %q among them", reached, want)
		}
	}
}

// The page is readable on a phone: nothing is wider than the screen, whatever the names are.
func TestOnAPhone(t *testing.T) {
	f := newFarm(t)
	s := start(t, f)
	testserver.Write(t, s.overrides, f.addr(2)+" drain until 2099-12-01T00:00:00Z # "+strings.Repeat("longwordwithoutaspace", 8)+"\n")
	s.use(2)
	s.waitFor(`"down":3`, "longword")
	for _, width := range []int64{320, 390, 768, 970, 1280} {
		p := open(t, s, chromedp.EmulateViewport(width, 844))
		p.live(5)
		p.waitUntil(app + `.textContent.includes("longword")`)
		wide := value[[]string](p, `[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest("thead")).map((e) => e.outerHTML.slice(0, 80))`)
		if scroll := value[int64](p, `document.documentElement.scrollWidth`); scroll > width || len(wide) > 0 {
			t.Errorf("at %d pixels the page is %d wide: %q", width, scroll, wide)
		}
		over := value[[]string](p, `[...document.querySelectorAll(".live td, .live th")].filter((e) => {
			const range = document.createRange();
			range.selectNodeContents(e);
			return e.offsetParent && !e.closest("thead") && range.getBoundingClientRect().right > e.getBoundingClientRect().right + 1;
		}).map((e) => e.outerHTML.slice(0, 80))`)
		if len(over) > 0 {
			t.Errorf("at %d pixels these are wider than their cells: %q", width, over)
		}
		p.picture(fmt.Sprintf("width-%d", width))
	}
}

// The page follows the settings for dark or light and for reduced motion, with enough contrast in
// both.
func TestDarkAndLight(t *testing.T) {
	s := start(t, newFarm(t))
	s.use(1)
	s.waitFor(`"down":3`)
	for scheme, dark := range map[string]bool{"dark": true, "light": false} {
		wish := emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		})
		p := open(t, s, wish)
		p.live(5)
		if got := value[float64](p, "{"+luminance+`luminance(getComputedStyle(document.body).backgroundColor)}`); got < 0.1 != dark {
			t.Errorf("%s: the ground has luminance %v", scheme, got)
		}
		if poor := value[[]string](p, "{"+luminance+poorContrast+"}"); len(poor) > 0 {
			t.Errorf("%s: contrast is below 4.5 in %q", scheme, poor)
		}
		if value[bool](p, `document.getAnimations().length > 0 || matchMedia("(prefers-reduced-motion: no-preference)").matches`) {
			t.Error("something moves")
		}
		p.picture(scheme)
	}
}

// luminance is that of WCAG 2.2; poorContrast finds texts that are hard to read.
const (
	luminance = `const parts = (c) => c.match(/[\d.]+/g).map(Number);
const luminance = (c) => parts(c).slice(0, 3).map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
`
	poorContrast = `const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; const p = parts(c); if (p.length < 4 || p[3] > 0) return c; } return getComputedStyle(document.body).backgroundColor; };
[...document.querySelectorAll("body *")].filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.nodeValue.trim())).filter((e) => {
	const a = luminance(getComputedStyle(e).color), b = luminance(ground(e));
	return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
}).map((e) => e.outerHTML.slice(0, 80))`
)

// Without JavaScript the page is a table that says the same.
func TestWithoutJavaScript(t *testing.T) {
	f := newFarm(t)
	s := start(t, f)
	s.use(2)
	s.waitFor(`"up":3`, `"down":3`)
	p := open(t, s, emulation.SetScriptExecutionDisabled(true))
	var text string
	p.run(chromedp.Text("body", &text))
	for _, part := range []string{"app.example.org. A", f.addr(2), "connection refused", "every member is down", "observe", "policy weighted", "hidden.example.org."} {
		if !strings.Contains(text, part) {
			t.Errorf("the page has no %q:\n%s", part, text)
		}
	}
	if strings.Contains(text, "only trouble") {
		t.Error("the page has a filter that does nothing")
	}
	p.picture("plain")
}

// A hidden tab sends no requests.
func TestAHiddenTabIsQuiet(t *testing.T) {
	s := start(t, newFarm(t))
	s.use(1)
	p := open(t, s)
	p.live(5)
	p.run(chromedp.Evaluate(`Object.defineProperty(document, "hidden", { value: true, configurable: true }); document.dispatchEvent(new Event("visibilitychange")); window.pending = state.timer; window.asked = 0; window.fetch = ((real) => (...all) => { window.asked++; return real(...all); })(window.fetch)`, nil))
	p.run(chromedp.Evaluate(`new Promise((done) => setTimeout(done, 2 * POLL))`, nil, func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
	if asked := value[int](p, `window.asked`); asked > 0 {
		t.Errorf("it asked %d times", asked)
	}
	p.run(chromedp.Evaluate(`Object.defineProperty(document, "hidden", { value: false, configurable: true }); document.dispatchEvent(new Event("visibilitychange"))`, nil))
	p.waitUntil(`window.asked > 0`)
}
