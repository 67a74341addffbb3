package chaos

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/ledger"
)

const origin = "chaos.xinqiao/sm"

// depts run nodes; all but the last vote.
func depts() []exchange.Dept { return []exchange.Dept{"minzheng", "zhujian", "gongan", "renshe"} }

func votes(d exchange.Dept) bool { return d != "renshe" }

// place is where a node listens. Raft and Peer are what members are told, and
// nobody listens there: each node reaches each other by a link of its own.
type place struct {
	Dept             exchange.Dept
	Raft, Peer       string            // names on the ledger
	RaftReal         string            // where it listens
	PeerReal         string            //
	RaftLink, PeerBy map[string]string // addresses by which it reaches the others, by department
}

// founding is what every node is told, and what one of them is.
type founding struct {
	Root, AuthorityCert []byte
	Sign, Enc           map[exchange.Dept][]byte
	Genesis             [][]byte
	Places              map[exchange.Dept]place
}

// settings is a node's own file.
type settings struct {
	Self     exchange.Dept
	Founding string // path
	Unowned  bool   // releases on the leader's word: the negative control
	MaxBytes int    // of the store; 0 is no bound
}

func id(parts ...string) ledger.ID {
	d := gm.Emmansun().Sum([]byte(fmt.Sprint(parts)))
	return ledger.ID(d[:16])
}

func grantKey(holder, requester exchange.Dept) string {
	return id("grant", string(holder), string(requester)).String()
}

func caseKey(holder, requester exchange.Dept) string {
	return id("case", string(holder), string(requester)).String()
}

func fact(author exchange.Dept, entry ledger.ID, c ledger.FactChange) ledger.Entry {
	return ledger.Entry{Suite: gm.Suite, Kind: ledger.KindFact, ID: entry, Author: author, Fact: &c}
}

// found makes keys, certificates and genesis in dir.
func found(dir string, places map[exchange.Dept]place) error {
	now := time.Now()
	caKeys, err := keyring.Generate(gm.Emmansun())
	if err != nil {
		return err
	}
	ca, root, err := cert.NewCA("chaos root", caKeys.TLSSigner(), now, 1000*time.Hour)
	if err != nil {
		return err
	}
	f := founding{Root: root, Sign: map[exchange.Dept][]byte{}, Enc: map[exchange.Dept][]byte{}, Places: places}
	var authority *keyring.Keyring
	for _, d := range append(depts(), exchange.Authority) {
		home := filepath.Join(dir, string(d))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return err
		}
		keys, err := keyring.CreateFrom(filepath.Join(home, "keys.xq"), []byte("chaos"), gm.Emmansun(),
			keyring.First{At: now, Cost: keyring.Cost{Time: 1, MemoryKiB: 1 << 10, Threads: 1}})
		if err != nil {
			return err
		}
		if d == exchange.Authority {
			authority = keys
		}
		issue := func(u cert.Usage, k gm.PublicKey) ([]byte, error) {
			return ca.Issue(cert.Request{Dept: string(d), Usage: u, Key: k, Hosts: []string{"127.0.0.1"}, Lifetime: 900 * time.Hour}, now)
		}
		if f.Sign[d], err = issue(cert.Signing, keys.SignPublic()); err != nil {
			return err
		}
		if f.Enc[d], err = issue(cert.Encryption, keys.EncPublic()); err != nil {
			return err
		}
	}
	f.AuthorityCert = f.Sign[exchange.Authority]
	if f.Genesis, err = f.genesis(authority); err != nil {
		return err
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "founding.json"), b, 0o600)
}

// genesis admits everybody and opens everything between each pair.
func (f *founding) genesis(authority *keyring.Keyring) ([][]byte, error) {
	changes := []ledger.FactChange{{Type: ledger.FactBaseline, Key: string(exchange.Authority), Content: []byte("baseline")}}
	for _, d := range depts() {
		p := f.Places[d]
		member := ledger.Member{Name: string(d), Voter: votes(d), Raft: p.Raft, Peer: p.Peer}
		changes = append(changes,
			ledger.FactChange{Type: ledger.FactMember, Key: string(d), Content: canon.MustMarshal(member)},
			ledger.FactChange{Type: ledger.FactCert, Key: string(d), Content: canon.MustMarshal(ledger.Certs{Sign: f.Sign[d], Enc: f.Enc[d]})})
		for _, to := range depts() {
			if to != d {
				changes = append(changes, ledger.FactChange{Type: ledger.FactGrant, Key: grantKey(d, to), Provider: d, Grantee: to})
			}
		}
	}
	var entries [][]byte
	for i, c := range changes {
		c.Action = ledger.Set
		b, err := fact(exchange.Authority, id("genesis", fmt.Sprint(i)), c).Encode()
		if err != nil {
			return nil, err
		}
		entries = append(entries, b)
	}
	frame, err := ledger.NewFrame(gm.Emmansun(), authority, origin, exchange.Authority, gm.Emmansun().Sum(f.AuthorityCert), 1, gm.Digest{}, entries)
	return [][]byte{frame}, err
}

// ownFacts are what a department writes itself before anybody may ask.
func ownFacts(d exchange.Dept) (list []ledger.Entry) {
	for _, t := range []ledger.FactType{ledger.FactRules, ledger.FactRestrictions, ledger.FactRoster, ledger.FactStatus} {
		list = append(list, fact(d, id("own", string(d), t.String()), ledger.FactChange{Type: t, Key: string(d), Action: ledger.Set, Content: []byte{1}}))
	}
	for _, holder := range depts() {
		if holder != d {
			list = append(list, fact(d, id("case", string(holder), string(d)),
				ledger.FactChange{Type: ledger.FactCase, Key: caseKey(holder, d), Action: ledger.Set, Provider: holder, Grantee: d}))
		}
	}
	return list
}

// freeAddr returns a loopback address on which nobody listens now. Its port is one
// that the system gives to no outgoing connection.
func freeAddr() (string, error) {
	for range 200 {
		var b [2]byte
		rand.Read(b[:])
		addr := fmt.Sprintf("127.0.0.1:%d", 12000+(int(b[0])<<8|int(b[1]))%18000)
		if l, err := net.Listen("tcp", addr); err == nil {
			return addr, l.Close()
		}
	}
	return "", fmt.Errorf("no free port on loopback")
}
