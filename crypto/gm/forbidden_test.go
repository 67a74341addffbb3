package gm

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const tjfocModule, emmansunModule = "github.com/tjfoc/gmsm/", "github.com/emmansun/gmsm/"

// safeNames returns what may be used of a tjfoc package, or false for a package
// with too many good names to list. Everything else in these packages is a trap:
// sm4.Sm4GCM has a wrong tag and repeats key stream, Sm4Cbc and its like share a
// global IV, sm2.Decrypt panics and leaks, Sm3Digest and KeyExchange drop zeros,
// Compress writes wrong prefixes.
func safeNames(path string) ([]string, bool) {
	switch strings.TrimPrefix(path, tjfocModule) {
	case "sm2":
		return []string{"P256Sm2", "PublicKey", "PrivateKey", "ZA", "Verify", "Sm2Sign", "EncryptAsn1", "DecryptAsn1"}, true
	case "sm3":
		return []string{"New", "SM3"}, true
	case "sm4":
		return []string{"NewCipher"}, true
	case "x509", "gmtls":
		return nil, false
	}
	return nil, true // pkcs12 and whatever else there is: nothing
}

// forbiddenNames lists the traps of the two packages that are not allowed name
// by name, and the methods that are traps on any value.
func forbiddenNames(path string) []string {
	switch strings.TrimPrefix(path, tjfocModule) {
	case "x509":
		return []string{"ParsePKCS7", "ParsePKCS8EcryptedPrivateKey", "ParsePKCS8PrivateKey", "ParsePKCS8UnecryptedPrivateKey",
			"ParseSm2PublicKey", "ReadPublicKeyFromHex", "ReadPrivateKeyFromHex", "ReadPrivateKeyFromPem", "WritePrivateKeyToPem",
			"MarshalSm2EncryptedPrivateKey", "PKCS7Encrypt", "PKCS7EncryptSM2", "NewSignedData"}
	case "gmtls":
		return []string{"Dial", "DialWithDialer", "NewBasicAutoSwitchConfig"}
	}
	return nil
}

func forbiddenMethods() []string {
	return []string{"Sm3Digest", "KeyExchangeA", "KeyExchangeB", "Sm4GCM", "Sm4Cbc"}
}

// forbiddenUses returns what a file takes from the two libraries against the
// rules. Packages are told apart by their directory in the tree.
func forbiddenUses(fset *token.FileSet, dir string, file *ast.File) []string {
	var found []string
	report := func(n ast.Node, format string, args ...any) {
		found = append(found, fmt.Sprintf("%s: %s", fset.Position(n.Pos()), fmt.Sprintf(format, args...)))
	}
	imported := map[string]string{}
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil || !strings.HasPrefix(path, tjfocModule) && !strings.HasPrefix(path, emmansunModule) {
			continue
		}
		certDoor := dir == "crypto/cert" || dir == "crypto/channel"
		if dir != "crypto/gm" && !(certDoor && strings.HasPrefix(path, tjfocModule)) {
			report(spec, "%s is imported outside its door", path)
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." || name == "_" {
			report(spec, "%s is imported without a name", path)
		}
		imported[name] = path
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, isName := sel.X.(*ast.Ident)
		path := ""
		if isName {
			path = imported[x.Name]
		}
		allowed, closed := safeNames(path)
		switch {
		case strings.HasPrefix(path, tjfocModule):
			if closed && !slices.Contains(allowed, sel.Sel.Name) || slices.Contains(forbiddenNames(path), sel.Sel.Name) {
				report(sel, "%s.%s is a trap", path, sel.Sel.Name)
			}
		case path == "" && slices.Contains(forbiddenMethods(), sel.Sel.Name):
			report(sel, "method %s is a trap", sel.Sel.Name)
		}
		return true
	})
	return found
}

// TestTrap02Trap08Trap09ForbiddenFunctions walks the whole module. Tests may
// call a trap to show that it is one.
func TestTrap02Trap08Trap09ForbiddenFunctions(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	fset := token.NewFileSet()
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != root && strings.HasPrefix(d.Name(), ".") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		files++
		for _, use := range forbiddenUses(fset, filepath.ToSlash(dir), file) {
			t.Error(use)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 10 {
		t.Fatalf("only %d files were looked at", files)
	}
}

func TestForbiddenUsesAreFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dir, body string
		want      int
	}{
		"wrong door":          {"ledger", `import "github.com/tjfoc/gmsm/sm3"; var _ = sm3.New`, 1},
		"emmansun at cert":    {"crypto/cert", `import "github.com/emmansun/gmsm/smx509"; var _ = smx509.X`, 1},
		"tjfoc at cert":       {"crypto/cert", `import "github.com/tjfoc/gmsm/x509"; var _ = x509.CreateCertificate`, 0},
		"own GCM":             {"crypto/gm", `import "github.com/tjfoc/gmsm/sm4"; var _ = sm4.Sm4GCM`, 1},
		"renamed":             {"crypto/gm", `import x "github.com/tjfoc/gmsm/sm4"; var _ = x.Sm4Cbc`, 1},
		"dot import":          {"crypto/gm", `import . "github.com/tjfoc/gmsm/sm4"`, 1},
		"raw decryption":      {"crypto/gm", `import "github.com/tjfoc/gmsm/sm2"; var _ = sm2.Decrypt`, 1},
		"compression":         {"crypto/gm", `import "github.com/tjfoc/gmsm/sm2"; var _ = sm2.Decompress`, 1},
		"PKCS 7":              {"crypto/cert", `import "github.com/tjfoc/gmsm/x509"; var _ = x509.ParsePKCS7`, 1},
		"PKCS 12":             {"crypto/cert", `import "github.com/tjfoc/gmsm/pkcs12"; var _ = pkcs12.Decode`, 1},
		"unrecoverable dial":  {"crypto/channel", `import "github.com/tjfoc/gmsm/gmtls"; var _ = gmtls.DialWithDialer`, 1},
		"method":              {"crypto/gm", `type k struct{}; func f(v interface{ Sm3Digest() }) { v.Sm3Digest() }`, 1},
		"what the wraps need": {"crypto/gm", `import "github.com/tjfoc/gmsm/sm4"; var _ = sm4.NewCipher`, 0},
	} {
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, "x.go", "package x\n"+c.body, parser.SkipObjectResolution)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := forbiddenUses(fset, c.dir, file); len(got) != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}
