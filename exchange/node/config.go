package node

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/goccy/go-yaml"

	"xinqiao/crypto/channel"
	"xinqiao/exchange"
	"xinqiao/exchange/api"
)

// Config is one node's configuration, the YAML file that `xinqiao serve
// --config` reads. Unknown and duplicate keys are errors. Paths are relative to
// the file. deploy/config holds a commented example that a test loads.
type Config struct {
	// Department is this node's department as the sharing authority admitted it.
	Department exchange.Dept `yaml:"department"`
	// Population is "real" or "synthetic": whose identity numbers are accepted. A
	// synthetic exchange refuses every number that could be a real person's.
	Population exchange.Population `yaml:"population"`
	// Genesis is the file that the sharing authority gave to every member: the
	// ledger's origin, the root certificate and the first members.
	Genesis string `yaml:"genesis"`
	// Data is the directory of ledger, replicated log and outbox. One process
	// holds it at a time.
	Data string `yaml:"data"`
	// Keyring holds this department's private keys, encrypted at rest: a file, or
	// unix:PATH for the socket of `xinqiao keyring serve`, a process that holds them
	// so that the node does not, and needs no passphrase.
	Keyring string `yaml:"keyring"`
	// PassphraseFile opens the keyring file; the environment variable
	// XINQIAO_PASSPHRASE does so when it is empty.
	PassphraseFile string `yaml:"passphrase_file"`
	// SignCert and EncCert are this department's SM2 certificates, PEM.
	SignCert string `yaml:"sign_cert"`
	EncCert  string `yaml:"enc_cert"`
	// CRL is the file with the CAs' revocation lists, PEM, or empty. Whom they name is
	// not admitted to this node's channels; the node reads it again when it changes.
	CRL string `yaml:"crl"`
	// Listen are the addresses of this node's three listeners, host:port.
	Listen Listen `yaml:"listen"`
	// Web is the P-256 certificate with which browsers, department systems and
	// Prometheus reach this node over HTTPS.
	Web Web `yaml:"web"`
	// Rules is the directory of this department's rules: one YAML file for each
	// item, and restrictions.yaml.
	Rules string `yaml:"rules"`
	// Catalogue is the JSON file of what this department holds.
	Catalogue string `yaml:"catalogue"`
	// Operators are the people who may be named in a question.
	Operators []Operator `yaml:"operators"`
	// Vault is the directory of the built-in source.
	Vault string `yaml:"vault"`
	// Systems are the department systems that may call the exchange API.
	Systems []System `yaml:"systems"`
	// Officers may log in to the ledger pages.
	Officers []string `yaml:"officers"`
	// Channel is the protocol between nodes: "gmtls" (the default) or "tls13". All
	// nodes of an exchange need the same; see package crypto/channel.
	Channel string `yaml:"channel"`
	// Engine is "auto" (the default) or "tjfoc"; see package crypto/gm.
	Engine string `yaml:"engine"`
	// LogLevel is debug, info (the default), warn or error.
	LogLevel string `yaml:"log_level"`
}

// Listen are listening addresses.
type Listen struct {
	Raft string `yaml:"raft"` // replication, GM TLS; as admitted by the authority
	Peer string `yaml:"peer"` // node to node, GM TLS; as admitted by the authority
	Web  string `yaml:"web"`  // exchange API, ledger pages, metrics and health, HTTPS
}

// Web names the HTTPS certificate.
type Web struct {
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// System is one department system that may call the exchange API. It has a
// token, a key or both.
type System struct {
	Name string `yaml:"name"`
	// Token is the SM3 hash, hexadecimal, of the system's bearer token: what
	// `printf %s TOKEN | openssl dgst -sm3` prints. The token itself is nowhere.
	Token string `yaml:"token_sm3,omitempty"`
	// Key is the file with the SM2 public key with which the system signs its
	// requests (RFC 9421): PEM, as `openssl pkey -pubout` writes it.
	Key string `yaml:"key,omitempty"`
	// Signed means that the system must sign and its token is not accepted.
	Signed  bool        `yaml:"signed,omitempty"`
	Scopes  []api.Scope `yaml:"scopes"`  // exchange, consent, catalogue, ledger
	Expires string      `yaml:"expires"` // RFC 3339
}

// Operator is one person on the roster.
type Operator struct {
	ID   exchange.Operator `yaml:"id"`
	Role exchange.Role     `yaml:"role"`
}

// Load reads and checks a configuration file. Its error names the file and,
// where the file is at fault, line and column.
func Load(path string) (Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	var c Config
	if err := yaml.NewDecoder(bytes.NewReader(raw), yaml.Strict(), yaml.DisallowUnknownField()).Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%s: %s", filepath.Base(path), yaml.FormatError(err, false, true))
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	base := filepath.Dir(path)
	for _, p := range []*string{&c.Genesis, &c.Data, &c.PassphraseFile, &c.SignCert, &c.EncCert, &c.CRL, &c.Web.Cert,
		&c.Web.Key, &c.Rules, &c.Catalogue, &c.Vault} {
		*p = relative(base, *p)
	}
	c.Keyring = relativeKeyring(base, c.Keyring)
	for i := range c.Systems {
		c.Systems[i].Key = relative(base, c.Systems[i].Key)
	}
	return c, nil
}

func (c Config) check() error {
	var errs []error
	missing := func(name, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s is missing", name))
		}
	}
	if !c.Department.Valid() || c.Department == exchange.Authority {
		errs = append(errs, errors.New("department is missing or malformed"))
	}
	if c.Population != exchange.Real && c.Population != exchange.Synthetic {
		errs = append(errs, errors.New(`population is neither "real" nor "synthetic"`))
	}
	for name, value := range map[string]string{"genesis": c.Genesis, "data": c.Data, "keyring": c.Keyring, "sign_cert": c.SignCert,
		"enc_cert": c.EncCert, "web.cert": c.Web.Cert, "web.key": c.Web.Key, "rules": c.Rules, "catalogue": c.Catalogue, "vault": c.Vault} {
		missing(name, value)
	}
	for name, addr := range map[string]string{"listen.raft": c.Listen.Raft, "listen.peer": c.Listen.Peer, "listen.web": c.Listen.Web} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			errs = append(errs, fmt.Errorf("%s is not host:port", name))
		}
	}
	if _, err := channel.ParseMode(c.Channel); err != nil {
		errs = append(errs, err)
	}
	for _, o := range c.Operators {
		if !o.ID.Valid() || !exchange.Field(o.Role).Valid() {
			errs = append(errs, fmt.Errorf("operator %q is malformed", o.ID))
		}
	}
	for _, s := range c.Systems {
		switch {
		case s.Token == "" && s.Key == "":
			errs = append(errs, fmt.Errorf("system %q has neither token_sm3 nor key", s.Name))
		case s.Signed && s.Key == "":
			errs = append(errs, fmt.Errorf("system %q is signed and has no key", s.Name))
		}
	}
	return errors.Join(errs...)
}

// Passphrase returns what opens the keyring.
func (c Config) Passphrase() ([]byte, error) {
	if c.PassphraseFile == "" {
		if p := os.Getenv("XINQIAO_PASSPHRASE"); p != "" {
			return []byte(p), nil
		}
		return nil, errors.New("no passphrase: set passphrase_file in the configuration or XINQIAO_PASSPHRASE in the environment")
	}
	b, err := os.ReadFile(c.PassphraseFile)
	if err != nil {
		return nil, fmt.Errorf("read the passphrase: %w", err)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}
