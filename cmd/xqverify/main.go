// Command xqverify checks an evidence file without a network and without any
// code that runs a node.
//
//	xqverify FILE --trust TRUST [-o text|json] [--lang zh|en]
//
// It exits 0 when the file is proven, 3 when it is not, with the reason by
// name, and 2 when it was called wrongly, a file is missing, or FILE is no zip.
package main

import (
	"os"
	"path/filepath"
)

func main() {
	os.Exit(run(filepath.Base(os.Args[0]), os.Args[1:], os.Stdout, os.Stderr))
}
