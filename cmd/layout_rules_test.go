package cmd

// houseRules is what the tree is held to. The tables are the house's plan: a
// change here is a change of the design, not of a test.
type houseRules struct {
	top      []string            // names allowed at top level
	banned   []string            // folder names allowed nowhere
	imports  map[string][]string // package → packages of this module that it may import
	doors    map[string][]string // foreign module or guarded standard package → packages that may import it
	closed   map[string][]string // program → packages that may not be linked into it
	noClock  []string            // packages and files in which time is an argument
	skips    []string            // tools that a test may name when it skips itself
	complete bool                // every row of imports must be in the tree
}

const (
	maxFile     = 700 // lines
	maxFunction = 120
	maxMain     = 60
)

// house returns the rules of this repository.
func house() houseRules {
	return houseRules{
		top: []string{"cmd", "exchange", "crypto", "ledger", "policy", "deploy", "go.mod", "go.sum", "Makefile",
			"README.md", "README.zh-CN.md", "LICENSE", ".ci", ".gitignore"},
		banned: []string{"internal", "pkg", "util", "utils", "common", "helper", "helpers", "misc", "base", "lib"},
		imports: map[string][]string{
			// The primitives know nothing of exchanges.
			"crypto/canon":    {},
			"crypto/gm":       {},
			"crypto/keyring":  {"crypto/canon", "crypto/gm"},
			"crypto/envelope": {"crypto/canon", "crypto/gm"},
			"crypto/cert":     {"crypto/canon", "crypto/gm"},
			"crypto/channel":  {"crypto/canon", "crypto/cert", "crypto/gm"},
			"crypto/httpsig":  {"crypto/gm"},

			// The nouns are standard library only, the judge sees nothing but nouns.
			"exchange":         {},
			"policy":           {"exchange"},
			"policy/authority": {"crypto/canon", "crypto/gm", "exchange", "policy"},
			"policy/rule":      {"crypto/canon", "crypto/gm", "exchange", "policy"},

			// The ledger records judgements and never sees the judge.
			"ledger/merkle":     {"crypto/gm"},
			"ledger/checkpoint": {"crypto/canon", "crypto/gm"},
			"ledger":            {"crypto/canon", "crypto/gm", "exchange", "ledger/checkpoint", "ledger/merkle"},
			"ledger/store":      {"crypto/canon", "crypto/gm", "exchange", "ledger"},
			"ledger/replica":    {"crypto/canon", "crypto/gm", "exchange", "ledger"},
			"ledger/chaos":      {}, // tests alone
			"ledger/index":      {"crypto/gm", "exchange", "ledger"},
			"ledger/verify": {"crypto/canon", "crypto/cert", "crypto/gm", "exchange", "ledger", "ledger/checkpoint",
				"ledger/merkle"},

			// Measures a whole ledger, in one process.
			"ledger/bench": {"crypto/canon", "crypto/cert", "crypto/gm", "crypto/keyring", "exchange", "ledger", "ledger/checkpoint",
				"ledger/merkle", "ledger/replica", "ledger/store"},

			// The broker is where policy, ledger, keys and materials meet, and nothing else.
			"exchange/material": {"crypto/canon", "crypto/gm", "exchange"},
			"exchange/source":   {"crypto/canon", "crypto/gm", "exchange", "exchange/material", "policy"},
			"exchange/broker": {"crypto/canon", "crypto/envelope", "crypto/gm", "exchange", "exchange/material", "ledger", "policy",
				"policy/authority", "policy/rule"},

			// Faces of a node: they decode, call and encode.
			"exchange/api":     {"crypto/gm", "crypto/httpsig", "exchange"},
			"exchange/console": {"crypto/gm", "exchange", "ledger", "ledger/checkpoint", "ledger/merkle"},
			"exchange/client":  {"crypto/gm", "crypto/httpsig", "exchange", "exchange/api"}, // the wire form is the api's
			"exchange/peer":    {"crypto/canon", "crypto/channel", "crypto/gm", "exchange", "ledger", "ledger/checkpoint"},

			// Assembly.
			"exchange/node": {"crypto/canon", "crypto/cert", "crypto/channel", "crypto/envelope", "crypto/gm", "crypto/keyring",
				"exchange", "exchange/api", "exchange/broker", "exchange/console", "exchange/peer", "exchange/source", "ledger",
				"ledger/checkpoint", "ledger/index", "ledger/replica", "ledger/store", "ledger/verify", "policy", "policy/authority",
				"policy/rule"},
			"exchange/demo": {"crypto/canon", "crypto/cert", "crypto/gm", "crypto/keyring", "exchange", "exchange/api",
				"exchange/client", "exchange/material", "exchange/node", "exchange/source", "ledger", "ledger/checkpoint",
				"ledger/merkle", "ledger/verify", "policy", "policy/authority", "policy/rule"},
			"cmd/xinqiao": {"crypto/cert", "crypto/envelope", "crypto/gm", "crypto/keyring", "exchange", "exchange/client",
				"exchange/demo", "exchange/node", "ledger", "ledger/bench", "ledger/verify", "policy", "policy/rule"},
			"cmd/xqverify": {"crypto/gm", "exchange", "ledger/verify"},
			"cmd":          {},
		},
		doors: map[string][]string{
			"go.etcd.io/bbolt":               {"ledger/store"},
			"github.com/hashicorp":           {"ledger/replica"},
			"github.com/emmansun/gmsm":       {"crypto/gm"},
			"github.com/tjfoc/gmsm":          {"crypto/gm"},
			"github.com/tjfoc/gmsm/x509":     {"crypto/cert", "crypto/channel"},
			"github.com/tjfoc/gmsm/gmtls":    {"crypto/channel"},
			"github.com/fxamacker/cbor":      {"crypto/canon"},
			"golang.org/x/crypto":            {"crypto/gm", "crypto/cert", "crypto/channel", "crypto/keyring"},
			"github.com/cedar-policy":        {"policy/rule"},
			"github.com/goccy/go-yaml":       {"policy/rule", "exchange/node", "exchange/demo"},
			"github.com/google/uuid":         {"ledger"},
			"github.com/prometheus":          {"exchange/node"},
			"github.com/spf13/cobra":         {"cmd/xinqiao"},
			"github.com/spf13/pflag":         {"cmd/xinqiao"},
			"golang.org/x/sys":               {"ledger/store", "ledger/replica", "cmd/xinqiao"},
			"golang.org/x/text":              {"exchange", "exchange/console"},
			"net/http":                       {"crypto/httpsig", "exchange/api", "exchange/client", "exchange/console", "exchange/demo", "exchange/node", "exchange/peer", "cmd/xinqiao"},
			"plugin":                         {},
			"unsafe":                         {},
			"math/rand":                      {"exchange/demo"},
			"math/rand/v2":                   {"exchange/client", "exchange/demo"}, // jitter; no secret is drawn from it
			"testing":                        {},
			"os":                             {"crypto/keyring", "exchange/source", "exchange/node", "exchange/demo", "ledger/store", "ledger/replica", "cmd/xinqiao", "cmd/xqverify"},
			"os/exec":                        {"exchange/demo", "cmd/xinqiao"},
			"database/sql":                   {"exchange/source"},
			"github.com/google/go-cmp":       {},
			"github.com/getkin/kin-openapi":  {},
			"github.com/rogpeppe":            {},
			"github.com/cockroachdb":         {},
			"github.com/chromedp":            {},
			"pgregory.net/rapid":             {},
			"github.com/anishathalye":        {},
			"golang.org/x/tools":             {},
			"github.com/santhosh-tekuri":     {},
			"go.yaml.in/yaml/v4":             {},
			"github.com/go-json-experiment":  {},
			"github.com/prometheus/promtool": {},
		},
		closed: map[string][]string{
			"cmd/xqverify": {"exchange/node", "exchange/broker", "exchange/api", "exchange/peer", "ledger/store", "ledger/replica",
				"crypto/channel", "crypto/keyring"},
		},
		noClock: []string{"crypto/canon", "crypto/gm", "crypto/keyring", "crypto/envelope", "crypto/cert", "crypto/httpsig", "exchange",
			"exchange/broker", "exchange/material", "exchange/source", "policy", "policy/authority", "policy/rule", "ledger/merkle",
			"ledger/checkpoint", "ledger/index", "ledger/verify", "ledger/state.go", "ledger/judge.go", "ledger/watermark.go",
			"ledger/receipt.go", "ledger/cosign.go"},
		skips: []string{"openssl", "chromium", "promtool", "prometheus", "systemd-analyze", "curl", "java", "go", "make", "bash", "ptrace", "root"},
	}
}
