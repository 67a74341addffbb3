// Command testsum runs `go test -json …`, shows one line a package and what
// went wrong, and ends with a line that counts: "12 passed, 0 failed, 0 skipped".
// It exits 1 when anything failed, when nothing ran and, in CI (CI=true), when
// anything was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is one line of go test -json; see go doc test2json.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

// summary counts tests and subtests, and keeps what each has said until it is
// known whether anyone wants to read it.
type summary struct {
	out                     io.Writer
	said                    map[string][]string
	passed, failed, skipped int
	broken                  bool // a package failed, or its build
	skips                   []string
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: testsum go test -json PACKAGES")
		os.Exit(2)
	}
	ok, err := run(os.Args[1:], os.Stdout, os.Getenv("CI") == "true")
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(command []string, out io.Writer, ci bool) (ok bool, err error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return false, err
	}
	if err := cmd.Start(); err != nil {
		return false, err
	}
	s := &summary{out: out, said: map[string][]string{}}
	lines := bufio.NewReader(pipe)
	for {
		line, readErr := lines.ReadString('\n')
		if line != "" {
			s.line(line)
		}
		if readErr != nil {
			break
		}
	}
	exit := cmd.Wait()
	for _, name := range s.skips {
		fmt.Fprintln(out, "skipped:", name)
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	if ci && s.skipped > 0 {
		return false, fmt.Errorf("in CI nothing may be skipped: install what the tests above name")
	}
	if exit == nil && s.passed == 0 {
		return false, fmt.Errorf("no test ran")
	}
	return exit == nil && s.failed == 0 && !s.broken, nil
}

func (s *summary) line(line string) {
	var e event
	if err := json.Unmarshal([]byte(line), &e); err != nil || e.Action == "" {
		fmt.Fprint(s.out, line) // what go itself says
		return
	}
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "output":
		s.said[key] = append(s.said[key], e.Output)
	case "build-output":
		s.broken = true
		fmt.Fprint(s.out, e.Output)
	case "pass", "fail", "skip":
		s.end(e, s.said[key])
		delete(s.said, key)
	}
}

// end handles the end of a test, or of a package when Test is empty.
func (s *summary) end(e event, said []string) {
	if e.Test == "" {
		s.endPackage(e, said)
		return
	}
	name := e.Package + " " + e.Test
	switch e.Action {
	case "pass":
		s.passed++
	case "fail":
		s.failed++
		fmt.Fprintf(s.out, "--- FAIL: %s (%.2fs)\n%s", name, e.Elapsed, strings.Join(said, ""))
	case "skip":
		s.skipped++
		s.skips = append(s.skips, name+": "+reason(said))
	}
}

// endPackage prints a package's closing line. A package that fails outside its
// tests, by a panic or a timeout, shows everything that was left unsaid in it.
func (s *summary) endPackage(e event, said []string) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(s.out, "ok   %s %.1fs\n", e.Package, e.Elapsed)
	case "fail":
		s.broken = true
		for key, left := range s.said {
			if strings.HasPrefix(key, e.Package+"\x00") && key != e.Package+"\x00" {
				fmt.Fprint(s.out, strings.Join(left, ""))
			}
		}
		fmt.Fprintf(s.out, "%sFAIL %s %.1fs\n", strings.Join(said, ""), e.Package, e.Elapsed)
	}
}

// reason is the last thing that a skipped test has said.
func reason(said []string) string {
	for i := len(said) - 1; i >= 0; i-- {
		if text := strings.TrimSpace(said[i]); text != "" && !strings.HasPrefix(text, "---") {
			return text
		}
	}
	return "no reason given"
}
