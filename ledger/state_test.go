package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
)

// script runs one file of testdata against a State.
//
//	founding                    the facts by which minzheng may answer zhujian
//	time at=SECONDS             what the leader's clock says from now on
//	basis NAME [grant= consent= case=]   remember what is in force for the pair
//	frame author= [seq=+N prev=none cert=DEPT origin=NAME]   one line an entry:
//	  set TYPE KEY [provider= grantee= from= until= reads= replaces=now|N]
//	  withdraw TYPE KEY [provider= grantee=]
//	  access HOLDER REQUESTER [basis=NAME | grant= consent= case=] [without=SLOT] [denied] [tag= epoch=]
//	  ack HOLDER | view
//	  clock DEPT,DEPT at=SECONDS [size=+N old=DEPT of=LEDGER]   a note that they cosigned, old under a certificate before
//	  each with [id=NAME] [origin=SECONDS]; without it, the id is new
//	facts | chains | witnessed  what the state has
type script struct {
	t       *testing.T
	realm   *realm
	state   *State
	now     int64
	serial  int
	founded uint64 // size of the ledger after founding
	bases   map[string]Basis
	factual map[string]FactType
}

func newScript(t *testing.T) *script {
	r := paperRealm()
	s := &script{t: t, realm: r, state: newState(gm.Emmansun(), testOrigin, r.parties[exchange.Authority].cert),
		bases: map[string]Basis{}, factual: map[string]FactType{}}
	for typ, name := range factNames {
		s.factual[name] = typ
	}
	return s
}

// args are the words of a line: positional ones, and key=value.
type args struct {
	words []string
	named map[string]string
}

func parseArgs(line string) args {
	a := args{named: map[string]string{}}
	for _, w := range strings.Fields(line) {
		if k, v, ok := strings.Cut(w, "="); ok {
			a.named[k] = v
		} else {
			a.words = append(a.words, w)
		}
	}
	return a
}

func (a args) has(word string) bool { return slices.Contains(a.words, word) }

func (a args) number(t *testing.T, name string) int64 {
	t.Helper()
	v, ok := a.named[name]
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (a args) or(name, def string) string {
	if v, ok := a.named[name]; ok {
		return v
	}
	return def
}

// key is that of a fact: a department's name, or the id that a label stands for.
func key(t FactType, name string) string {
	if t.pair() {
		return label(name).String()
	}
	return name
}

func (s *script) run(d *datadriven.TestData) string {
	a := args{words: []string{d.Cmd}, named: map[string]string{}}
	for _, c := range d.CmdArgs {
		if len(c.Vals) == 0 {
			a.words = append(a.words, c.Key)
			continue
		}
		a.named[c.Key] = c.Vals[0]
	}
	switch d.Cmd {
	case "founding":
		for _, entries := range s.realm.founding() {
			author := entries[0].Author
			s.apply(s.realm.parties[author].frameOf(s.t, s.state.authors[author], entries...))
		}
		s.founded = s.state.size
		return fmt.Sprintf("%d leaves\n", s.founded)
	case "witnessed":
		return fmt.Sprintf("%d\n", s.state.witnessed/1000)
	case "time":
		s.now = a.number(s.t, "at")
		return ""
	case "basis":
		s.bases[a.words[1]] = s.basis(a, "minzheng", "zhujian")
		return ""
	case "frame":
		return s.frame(a, d.Input)
	case "facts":
		return s.facts()
	case "chains":
		var b strings.Builder
		for _, dept := range slices.Sorted(maps.Keys(s.state.authors)) {
			fmt.Fprintf(&b, "%s %d\n", dept, s.state.authors[dept].Seq)
		}
		return b.String()
	}
	s.t.Fatalf("%s: unknown command %q", d.Pos, d.Cmd)
	return ""
}

func (s *script) basis(a args, holder, requester exchange.Dept) Basis {
	return basisOf(s.state, holder, requester, label(a.or("grant", "grant")).String(), label(a.or("consent", "consent")).String(),
		label(a.or("case", "case")).String())
}

func (s *script) apply(frames ...[]byte) []newLeaf {
	s.t.Helper()
	batch, parsed, err := parseBatch(gm.Emmansun(), batchOf(s.t, time.Unix(s.now, 0), frames...), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	leaves, _, _ := s.state.apply(batch, parsed)
	return leaves
}

func (s *script) frame(a args, input string) string {
	author := exchange.Dept(a.named["author"])
	var entries []Entry
	for line := range strings.Lines(input) {
		a := parseArgs(line)
		e := s.entry(author, a)
		e.Origin = 1000 * a.number(s.t, "origin")
		entries = append(entries, e)
	}
	last := s.state.authors[author]
	last.Seq += uint64(a.number(s.t, "seq"))
	if a.named["prev"] == "none" {
		last.Last = gm.Digest{}
	}
	p := *s.realm.parties[author]
	if d, ok := a.named["cert"]; ok {
		p.cert = s.realm.parties[exchange.Dept(d)].cert
	}
	frame := p.frameOf(s.t, last, entries...)
	if origin, ok := a.named["origin"]; ok {
		frame = altered(s.t, frame, func(_ *Frame, b *FrameBody) { b.Origin = origin })
	}
	leaves := s.apply(frame)
	if len(leaves) == 0 {
		return "no trace\n"
	}
	var b strings.Builder
	for _, n := range leaves {
		fmt.Fprintf(&b, "%d %s %s", n.index, n.entry.Kind, n.leaf.Result)
		if n.leaf.Slot != SlotNone {
			fmt.Fprintf(&b, " %s", n.leaf.Slot)
		}
		if n.leaf.Back != 0 {
			fmt.Fprintf(&b, " back=%d", n.leaf.Back-1)
		}
		fmt.Fprintf(&b, " at=%d\n", n.leaf.Time/1000)
	}
	return b.String()
}

func (s *script) entry(author exchange.Dept, a args) Entry {
	s.serial++
	id := label(a.or("id", fmt.Sprintf("serial %d", s.serial)))
	switch a.words[0] {
	case "ack":
		return ackEntry(author, id, exchange.Dept(a.words[1]))
	case "clock":
		return s.clock(author, id, a)
	case "view":
		return Entry{Suite: gm.Suite, Kind: KindView, ID: id, Author: author, View: &Viewing{Action: "show", Rows: 1}}
	case "access":
		holder, requester := exchange.Dept(a.words[1]), exchange.Dept(a.words[2])
		if a.has("denied") {
			e := deniedEntry(holder, requester, id)
			e.Access.HolderTag, e.Access.Epoch = Tag([]byte(fmt.Sprintf("%-16s", a.or("tag", "t")))), a.or("epoch", "2026-03")
			return e
		}
		b := s.basis(a, holder, requester)
		if name, ok := a.named["basis"]; ok {
			b = s.bases[name]
		}
		for _, slot := range Slots() {
			if slot.String() == a.named["without"] {
				*b.At(slot) = Ref{}
			}
		}
		e := accessEntry(holder, requester, id, b)
		e.Access.HolderTag, e.Access.Epoch = Tag([]byte(fmt.Sprintf("%-16s", a.or("tag", "t")))), a.or("epoch", "2026-03")
		return e
	}
	typ, known := s.factual[a.words[1]]
	if !known {
		s.t.Fatalf("unknown fact type %q", a.words[1])
	}
	c := FactChange{Type: typ, Key: key(typ, a.words[2]), Action: Withdraw, Provider: exchange.Dept(a.named["provider"]),
		Grantee: exchange.Dept(a.named["grantee"])}
	if a.words[0] == "set" {
		c.Action, c.NotBefore, c.NotAfter = Set, a.number(s.t, "from"), a.number(s.t, "until")
		c.MaxReads = uint32(a.number(s.t, "reads"))
		if a.named["replaces"] == "now" {
			c.Replaces = s.state.facts.get(c.Type, c.Key).Ref().Version
		} else {
			c.Replaces = uint64(a.number(s.t, "replaces"))
		}
		if typ == FactCert {
			pair := CertPair{Sign: s.realm.parties[exchange.Dept(a.or("of", c.Key))].cert, Enc: []byte(a.or("enc", ""))}
			c.Content = s.certificates(c.Key, pair, a.or("renews", ""))
		}
	}
	return factEntry(author, id, c)
}

// clock is an entry by which the departments of the second word have seen a time.
func (s *script) clock(author exchange.Dept, id ID, a args) Entry {
	certs := map[exchange.Dept]uint64{}
	for name := range strings.SplitSeq(a.words[1], ",") {
		certs[exchange.Dept(name)] = s.state.facts.get(FactCert, name).Ref().Version
		if name == a.named["old"] {
			certs[exchange.Dept(name)]--
		}
	}
	head := checkpoint.Checkpoint{Origin: a.or("of", testOrigin), Size: s.state.size + uint64(a.number(s.t, "size"))}
	return s.realm.clockEntry(s.t, author, id, head, time.Unix(a.number(s.t, "at"), 0), certs)
}

// certificates is the content that puts pair in force: alone, behind all that
// were in force, or behind the last only.
func (s *script) certificates(dept string, pair CertPair, renews string) []byte {
	certs := Certs{Sign: pair.Sign, Enc: pair.Enc}
	if renews != "" {
		old, err := DecodeCerts(s.state.facts.get(FactCert, dept).Content)
		if err != nil {
			s.t.Fatal(err)
		}
		certs = old.Renew(pair)
		if renews == "last" {
			certs.Earlier = certs.Earlier[:1]
		}
	}
	return canon.MustMarshal(certs)
}

// facts lists what founding did not leave so.
func (s *script) facts() string {
	var lines []string
	for typ, byKey := range s.state.facts {
		for k, f := range byKey {
			if f.Version <= s.founded && f.Reads == 0 {
				continue
			}
			line := fmt.Sprintf("%-12s %.8s v%d by %s", typ, k, f.Version, f.Author)
			if !f.Active {
				line += " withdrawn"
			}
			if f.MaxReads > 0 || f.Reads > 0 {
				line += fmt.Sprintf(" reads=%d/%d", f.Reads, f.MaxReads)
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

func TestState(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/state", func(t *testing.T, path string) {
		s := newScript(t)
		datadriven.RunTest(t, path, func(_ *testing.T, d *datadriven.TestData) string { return s.run(d) })
	})
}
