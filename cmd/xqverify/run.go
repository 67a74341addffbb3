package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"xinqiao/ledger/verify"
)

// Exit codes.
const (
	exitProven    = 0
	exitUsage     = 2
	exitNotProven = 3
)

// call is what the command line asks for.
type call struct {
	file, trust, output, lang string
}

// run is the program; main only hands it the process's streams.
func run(name string, args []string, stdout, stderr io.Writer) int {
	c, err := parse(name, args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitUsage
	}
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\nusage: %s FILE --trust TRUST [-o text|json] [--lang zh|en]\n", name, err, name)
		return exitUsage
	}
	archive, err := os.ReadFile(c.file)
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
		return exitUsage
	}
	trustFile, err := os.ReadFile(c.trust)
	if err != nil {
		fmt.Fprintf(stderr, "%s: the trust file: %v\n", name, err)
		return exitUsage
	}
	report, err := check(archive, trustFile)
	if errors.Is(err, verify.ErrNotZip) {
		fmt.Fprintf(stderr, "%s: %s: %v\n", name, c.file, err)
		return exitUsage
	}
	if printErr := show(c, report, stdout); printErr != nil {
		fmt.Fprintf(stderr, "%s: write the result: %v\n", name, printErr)
		return exitUsage
	}
	if err != nil {
		return exitNotProven
	}
	return exitProven
}

// parse reads the command line; flags may stand on either side of FILE.
func parse(name string, args []string, stderr io.Writer) (call, error) {
	var c call
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		fmt.Fprintf(stderr, "usage: %s FILE --trust TRUST [-o text|json] [--lang zh|en]\n", name)
		f.PrintDefaults()
	}
	f.StringVar(&c.trust, "trust", "", "trust file, obtained from the sharing authority")
	f.StringVar(&c.output, "o", "text", "output: text or json")
	f.StringVar(&c.lang, "lang", "zh", "language of the text: zh or en")
	var files []string
	for rest := args; ; {
		if err := f.Parse(rest); err != nil {
			return c, err
		}
		if f.NArg() == 0 {
			break
		}
		files, rest = append(files, f.Arg(0)), f.Args()[1:]
	}
	switch {
	case len(files) != 1:
		return c, fmt.Errorf("want one evidence file, got %d", len(files))
	case c.trust == "":
		return c, errors.New("--trust is missing")
	case c.output != "text" && c.output != "json":
		return c, fmt.Errorf("unknown output %q", c.output)
	case c.lang != "zh" && c.lang != "en":
		return c, fmt.Errorf("unknown language %q", c.lang)
	}
	c.file = files[0]
	return c, nil
}

func check(archive, trustFile []byte) (verify.Report, error) {
	trust, err := verify.ParseTrust(trustFile)
	if err != nil {
		var f *verify.Failure
		if errors.As(err, &f) {
			return verify.Report{Reason: f.Reason, Detail: f.Err.Error()}, err
		}
		return verify.Report{}, err
	}
	return verify.Run(archive, trust)
}

func show(c call, r verify.Report, w io.Writer) error {
	if c.output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	_, err := io.WriteString(w, r.Text(c.lang))
	return err
}
