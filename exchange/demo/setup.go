package demo

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	ports "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/goccy/go-yaml"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/api"
	"xinqiao/exchange/node"
	"xinqiao/exchange/source"
	"xinqiao/ledger"
	"xinqiao/policy"
	"xinqiao/policy/authority"
	"xinqiao/policy/rule"
)

// Network is a founded exchange on disk: keys, certificates, genesis, and one
// directory for each department with everything its node needs.
type Network struct {
	Dir    string
	Origin string
	Sites  []Site
	WebCA  []byte // PEM, with which every node's HTTPS verifies
	Issued int    // materials in all vaults
}

// Site is one department's place in the network.
type Site struct {
	Dept   exchange.Dept
	Config string       // path of its node.yaml
	URL    string       // of its HTTPS listener
	Token  string       // of its one system, "counter"
	Key    gm.PublicKey // with which it signs
}

// Site returns the department's site.
func (n *Network) Site(dept exchange.Dept) Site {
	for _, s := range n.Sites {
		if s.Dept == dept {
			return s
		}
	}
	return Site{}
}

const (
	year     = 365 * 24 * time.Hour
	system   = "counter" // the one department system of each site
	officer  = "auditor"
	operator = exchange.Operator("op-0417")
)

// Setup founds a network in dir: it plays the sharing authority and every
// department's administrator, whose steps `xinqiao pki` and `xinqiao genesis`
// take one by one.
func Setup(dir, engine string, now time.Time) (*Network, error) {
	e, _, err := gm.ByName(engine)
	if err != nil {
		return nil, err
	}
	n := &Network{Dir: dir, Origin: "demo.xinqiao.example/ledger"}
	f := founder{n: n, engine: e, name: engine, now: now}
	for _, step := range []func() error{f.makeCA, f.makeAuthority, f.makeSites, f.found} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("set up the demo network: %w", err)
		}
	}
	return n, nil
}

// founder holds what is needed only while the network is founded.
type founder struct {
	n         *Network
	engine    gm.Engine
	name      string
	now       time.Time
	ca        *cert.CA
	root      []byte
	webCert   []byte
	webKey    []byte
	authority *keyring.Keyring
	authSign  []byte
	authEnc   []byte
	members   []node.Admission
}

func (f *founder) path(parts ...string) string {
	return filepath.Join(append([]string{f.n.Dir}, parts...)...)
}

// newKeys makes a keyring with a random passphrase beside it: demo keys guard
// nothing. A real node's passphrase comes from its administrator. The passphrase
// has 130 random bits, so stretching it costs time and gains nothing.
func (f *founder) newKeys(dir string) (*keyring.Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	passphrase := []byte(rand.Text())
	if err := os.WriteFile(filepath.Join(dir, "passphrase"), passphrase, 0o600); err != nil {
		return nil, err
	}
	return keyring.CreateFrom(filepath.Join(dir, "keys.xq"), passphrase, f.engine,
		keyring.First{At: f.now, Cost: keyring.Cost{Time: 1, MemoryKiB: 1 << 10, Threads: 1}})
}

func (f *founder) makeCA() error {
	keys, err := f.newKeys(f.path("ca"))
	if err != nil {
		return err
	}
	if f.ca, f.root, err = cert.NewCA("Xinqiao demo root", keys.TLSSigner(), f.now, 10*year); err != nil {
		return err
	}
	if f.webCert, f.webKey, err = cert.NewWebCA("Xinqiao demo web root", f.now, 10*year); err != nil {
		return err
	}
	f.n.WebCA = f.webCert
	return writeAll(map[string]file{f.path("ca", "root.pem"): {cert.EncodePEM(f.root), 0o644},
		f.path("ca", "web-ca.key"): {f.webKey, 0o600}, f.path("web-ca.pem"): {f.webCert, 0o644}})
}

type file struct {
	content []byte
	mode    os.FileMode
}

func writeAll(files map[string]file) error {
	for path, f := range files {
		if err := os.WriteFile(path, f.content, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// issue makes both certificates for a department's keys.
func (f *founder) issue(dept exchange.Dept, k *keyring.Keyring) (sign, enc []byte, err error) {
	for usage, key := range map[cert.Usage]gm.PublicKey{cert.Signing: k.SignPublic(), cert.Encryption: k.EncPublic()} {
		der, err := f.ca.Issue(cert.Request{Dept: string(dept), Usage: usage, Key: key, Hosts: []string{"127.0.0.1"}, Lifetime: year}, f.now)
		if err != nil {
			return nil, nil, err
		}
		if usage == cert.Signing {
			sign = der
		} else {
			enc = der
		}
	}
	return sign, enc, nil
}

func (f *founder) makeAuthority() (err error) {
	if f.authority, err = f.newKeys(f.path("authority")); err != nil {
		return err
	}
	f.authSign, f.authEnc, err = f.issue(exchange.Authority, f.authority)
	return err
}

// makeSites makes every department's directory, two at a time.
func (f *founder) makeSites() error {
	people, err := People()
	if err != nil {
		return err
	}
	depts := Departments()
	ports, err := freePorts(3 * len(depts))
	if err != nil {
		return err
	}
	type made struct {
		site   Site
		member node.Admission
		issued int
		err    error
	}
	results := make([]chan made, len(depts))
	slots := make(chan struct{}, 2)
	for i, d := range depts {
		results[i] = make(chan made, 1)
		go func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			var m made
			m.site, m.member, m.issued, m.err = f.makeSite(d, people, ports[3*i:3*i+3])
			results[i] <- m
		}()
	}
	for i := range depts {
		m := <-results[i]
		if m.err != nil {
			return fmt.Errorf("%s: %w", depts[i].Dept, m.err)
		}
		f.n.Sites = append(f.n.Sites, m.site)
		f.members = append(f.members, m.member)
		f.n.Issued += m.issued
	}
	return nil
}

func (f *founder) makeSite(d Department, people *Population, ports []string) (Site, node.Admission, int, error) {
	fail := func(err error) (Site, node.Admission, int, error) { return Site{}, node.Admission{}, 0, err }
	dir := f.path(string(d.Dept))
	keys, err := f.newKeys(dir)
	if err != nil {
		return fail(err)
	}
	sign, enc, err := f.issue(d.Dept, keys)
	if err != nil {
		return fail(err)
	}
	webCert, webKey, err := cert.IssueWeb(f.webCert, f.webKey, []string{"127.0.0.1", "localhost"}, f.now, year)
	if err != nil {
		return fail(err)
	}
	catalogue, err := json.MarshalIndent(Catalogue(d.Dept), "", "  ")
	if err != nil {
		return fail(err)
	}
	token := rand.Text()
	cfg := f.config(d.Dept, ports, token)
	text, err := yaml.Marshal(cfg)
	if err != nil {
		return fail(err)
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	if err := writeAll(map[string]file{in("sign.pem"): {cert.EncodePEM(sign), 0o644}, in("enc.pem"): {cert.EncodePEM(enc), 0o644},
		in("web.pem"): {webCert, 0o644}, in("web.key"): {webKey, 0o600}, in("catalogue.json"): {catalogue, 0o644},
		in("token"): {[]byte(token), 0o600}, in("node.yaml"): {text, 0o600}}); err != nil {
		return fail(err)
	}
	if err := writeRules(d.Dept, in("rules")); err != nil {
		return fail(err)
	}
	vault, err := source.OpenVault(in("vault"), keys, f.engine)
	if err != nil {
		return fail(err)
	}
	issued, err := Issue(f.engine, keys, f.engine.Sum(sign), vault, d.Dept, people, f.now)
	if err != nil {
		return fail(err)
	}
	site := Site{Dept: d.Dept, Config: in("node.yaml"), URL: "https://" + ports[2], Token: token, Key: keys.SignPublic()}
	return site, node.Admission{Dept: d.Dept, Certs: ledger.Certs{Sign: sign, Enc: enc}, Member: ledger.Member{Name: d.Name,
		NameEN: d.NameEN, USCC: d.USCC, Voter: d.Voter, Raft: ports[0], Peer: ports[1]}}, issued, nil
}

func (f *founder) config(dept exchange.Dept, ports []string, token string) node.Config {
	return node.Config{Department: dept, Population: exchange.Synthetic, Genesis: "../genesis.json", Data: "data", Keyring: "keys.xq",
		PassphraseFile: "passphrase", SignCert: "sign.pem", EncCert: "enc.pem", Listen: node.Listen{Raft: ports[0], Peer: ports[1], Web: ports[2]},
		Web: node.Web{Cert: "web.pem", Key: "web.key"}, Rules: "rules", Catalogue: "catalogue.json", Vault: "vault",
		Operators: []node.Operator{{ID: operator, Role: "case_handler"}, {ID: "op-0502", Role: "reviewer"}},
		Systems: []node.System{{Name: system, Token: fmt.Sprintf("%x", f.engine.Sum([]byte(token))), Expires: f.now.Add(year).Format(time.RFC3339),
			Scopes: []api.Scope{api.ScopeExchange, api.ScopeConsent, api.ScopeCatalogue, api.ScopeLedger}}},
		Officers: []string{officer}, Engine: f.name, LogLevel: "info"}
}

// writeRules copies the department's shipped rules into its directory, where
// its owner would edit them.
func writeRules(dept exchange.Dept, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files, err := filesOf(dept)
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// found signs the genesis as the authority: members, certificates, baseline,
// and a share grant for each pair and class that the shipped rules open.
func (f *founder) found() error {
	baseline, err := ruleFiles.ReadFile("rules/" + rule.BaselineFile)
	if err != nil {
		return err
	}
	bundle, err := rule.EncodeBundle(map[string][]byte{rule.BaselineFile: baseline})
	if err != nil {
		return err
	}
	grants, err := f.grants()
	if err != nil {
		return err
	}
	founding := node.Founding{Origin: f.n.Origin, Root: f.root, Sign: f.authSign, Enc: f.authEnc,
		Members: f.members, Baseline: bundle, Grants: grants, At: f.now}
	g, err := node.Found(f.engine, f.authority, founding)
	if err != nil {
		return err
	}
	return errors.Join(g.Write(f.path("genesis.json")), founding.WriteTrust(f.path("trust.json")))
}

// grants makes one share grant for each holder, requester and class.
func (f *founder) grants() ([]authority.Grant, error) {
	rules, err := Rules()
	if err != nil {
		return nil, err
	}
	type pair struct {
		provider, requester exchange.Dept
		class               string
	}
	at := map[pair]int{}
	var list []authority.Grant
	for _, r := range rules {
		for _, to := range r.To {
			p := pair{r.Provider, to.Dept, r.Item.Class()}
			i, known := at[p]
			if !known {
				id, err := ledger.NewID()
				if err != nil {
					return nil, err
				}
				i, at[p] = len(list), len(list)
				list = append(list, authority.Grant{Suite: gm.Suite, ID: id, Provider: p.provider, Requester: p.requester, Class: p.class,
					Scenario: "demo", Basis: "政务数据共享条例 第二十条", NotBefore: f.now.Add(-time.Hour).Unix(), NotAfter: f.now.Add(year).Unix()})
			}
			item := policy.GrantItem{Item: r.Item, Purposes: r.Purposes}
			for _, views := range r.Fields {
				item.Views = append(item.Views, views...)
			}
			list[i].Items = append(list[i].Items, item)
		}
	}
	return list, nil
}

// freePorts returns n loopback addresses that are free now. They lie below the
// ports that systems give to outgoing connections, or one of those could take an
// address before its node listens on it.
func freePorts(n int) ([]string, error) {
	const lowest, end, tries = 10240, 32768, 1000
	var addrs []string
	for range tries {
		if len(addrs) == n {
			return addrs, nil
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lowest+ports.IntN(end-lowest)))
		if err != nil {
			continue // taken
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return nil, fmt.Errorf("no %d free ports between %d and %d on this computer", n, lowest, end)
}
