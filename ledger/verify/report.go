package verify

import (
	"encoding/hex"
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/merkle"
)

// Evidence is what an evidence file says, entry by entry.
type Evidence struct {
	Origin    string          `json:"origin,omitempty"`
	Exporter  exchange.Dept   `json:"exporter,omitempty"`
	Created   time.Time       `json:"created,omitzero"`
	Size      uint64          `json:"size,omitempty"` // of the tree whose head was cosigned
	Root      string          `json:"root,omitempty"`
	Cosigners []exchange.Dept `json:"cosigners,omitempty"`
	Cosigned  time.Time       `json:"cosigned,omitzero"` // the latest of the cosignatures' times
	Entries   []Finding       `json:"entries,omitempty"`
}

// Finding is one entry.
type Finding struct {
	Index     uint64        `json:"index"`
	Entry     string        `json:"entry"`
	Kind      string        `json:"kind"`
	Result    string        `json:"result"`             // committed | stale | refused
	Because   string        `json:"because,omitempty"`  // the slot that made it stale or refused
	Time      time.Time     `json:"time"`               // ledger time
	Author    exchange.Dept `json:"author"`             // who signed it
	Frame     uint64        `json:"frame"`              // the number of the author's frame that holds it
	LeafHash  string        `json:"leafHash"`           //
	Requester exchange.Dept `json:"requester,omitzero"` // of accesses
	Holder    exchange.Dept `json:"holder,omitzero"`    //
	Class     string        `json:"class,omitempty"`    //
	Outcome   string        `json:"outcome,omitempty"`  // allowed | no_record | denied
	Fact      string        `json:"fact,omitempty"`     // of fact changes: "set grant …"
	Denials   *Denials      `json:"denials,omitempty"`  // of summed up denials
	Detail    *Detail       `json:"detail,omitempty"`   // when a party disclosed the body
}

// Denials is how many requests the author has denied to the finding's requester
// without an entry for each, and when.
type Denials struct {
	Count uint64    `json:"count"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
}

// Detail is what a disclosed body adds. The subject's identifier is masked: who
// must know it reads the body.
type Detail struct {
	Item     exchange.Item     `json:"item"`
	Subject  string            `json:"subject"`
	Views    []string          `json:"views"`
	Purpose  exchange.Purpose  `json:"purpose"`
	Matter   exchange.Matter   `json:"matter"`
	Case     exchange.Case     `json:"case"`
	Operator exchange.Operator `json:"operator"`
	Rule     string            `json:"rule,omitempty"`
	Reasons  []exchange.Code   `json:"reasons,omitempty"`
}

// describe reads what the files say. It proves nothing; it is a pure function
// of the files, so that exporter and verifier write the same report.
func describe(files map[string][]byte, m Manifest, head checkpoint.Note) (Evidence, error) {
	d := Evidence{Origin: m.Origin, Exporter: m.Exporter, Created: m.Created.UTC(), Size: head.Size, Root: hex.EncodeToString(head.Root[:])}
	for _, c := range head.Cosignatures {
		d.Cosigners = append(d.Cosigners, exchange.Dept(c.Name))
		if c.Time.After(d.Cosigned) {
			d.Cosigned = c.Time
		}
	}
	slices.Sort(d.Cosigners)
	for _, index := range m.Entries {
		f, err := finding(files, index)
		if err != nil {
			return d, fmt.Errorf("entry %d: %w", index, err)
		}
		d.Entries = append(d.Entries, f)
	}
	return d, nil
}

func finding(files map[string][]byte, index uint64) (Finding, error) {
	raw := files[leafFile(index)]
	leaf, entry, err := ledger.DecodeLeaf(raw)
	if err != nil {
		return Finding{}, err
	}
	_, frame, err := ledger.DecodeFrameRecord(files[frameFile(leaf.Frame)])
	if err != nil {
		return Finding{}, err
	}
	hash := merkle.LeafHash(gm.Emmansun(), raw)
	f := Finding{Index: index, Entry: entry.ID.String(), Kind: entry.Kind.String(), Result: leaf.Result.String(), Time: leaf.At(),
		Author: entry.Author, Frame: frame.Seq, LeafHash: hex.EncodeToString(hash[:])}
	if leaf.Slot != ledger.SlotNone {
		f.Because = leaf.Slot.String()
	}
	if c := entry.Fact; c != nil {
		verb := "set"
		if c.Action == ledger.Withdraw {
			verb = "withdraw"
		}
		f.Fact = fmt.Sprintf("%s %s %s", verb, c.Type, c.Key)
	}
	if a := entry.Access; a != nil {
		f.Requester, f.Holder, f.Class, f.Outcome = a.Requester, a.Holder, a.Class, a.Outcome.String()
	}
	if s := entry.Denied; s != nil {
		f.Requester, f.Holder = s.Requester, entry.Author
		f.Denials = &Denials{s.Count, time.UnixMilli(s.From).UTC(), time.UnixMilli(s.To).UTC()}
	}
	if b, ok := files[bodyFile(index)]; ok {
		body, _, err := ledger.DecodeBody(gm.Emmansun(), b)
		if err != nil {
			return f, err
		}
		f.Detail = detailOf(body)
	}
	return f, nil
}

func detailOf(b ledger.Body) *Detail {
	d := &Detail{Item: b.Item, Subject: string(b.Subject.Kind) + " " + masked(b.Subject.ID), Purpose: b.Purpose, Matter: b.Matter,
		Case: b.Case, Operator: b.Operator, Rule: b.Rule}
	for _, v := range b.Views {
		s := string(v.Field) + ":" + v.Mode.String()
		if v.Predicate != "" {
			s += ":" + v.Predicate
		}
		d.Views = append(d.Views, s)
	}
	for _, r := range b.Reasons {
		d.Reasons = append(d.Reasons, r.Code)
	}
	return d
}

// masked shows the last four characters of an identifier.
func masked(id string) string {
	r := []rune(id)
	if len(r) <= 4 {
		return strings.Repeat("*", len(r))
	}
	return strings.Repeat("*", len(r)-4) + string(r[len(r)-4:])
}

// line is one labelled value of the readable report.
type line struct{ label, value string }

// section is one block of it; the first has no title.
type section struct {
	title string
	lines []line
}

// Text returns what the evidence says in Chinese ("zh") or English ("en"). Times
// are those of China.
func (d Evidence) Text(lang string) string {
	var b strings.Builder
	for i, s := range d.sections(lang) {
		if i > 0 {
			b.WriteString("\n" + s.title + "\n")
		}
		for _, l := range s.lines {
			b.WriteString("  " + l.label + ": " + l.value + "\n")
		}
	}
	return b.String()
}

func (d Evidence) sections(lang string) []section {
	w := wordsOf(lang)
	out := []section{{lines: []line{
		{w.ledger, d.Origin},
		{w.head, fmt.Sprintf("%d, SM3 %s", d.Size, d.Root)},
		{w.cosigned, fmt.Sprintf("%s (%s)", join(d.Cosigners), clock(d.Cosigned))},
		{w.exported, fmt.Sprintf("%s (%s)", d.Exporter, clock(d.Created))},
	}}}
	for _, f := range d.Entries {
		out = append(out, section{fmt.Sprintf("%s %d", w.entry, f.Index), f.lines(w)})
	}
	return out
}

func (f Finding) lines(w words) []line {
	list := []line{
		{w.id, f.Entry},
		{w.kind, w.term(f.Kind)},
		{w.when, clock(f.Time)},
		{w.signedBy, fmt.Sprintf("%s, %s %d", f.Author, w.frame, f.Frame)},
	}
	if f.Outcome != "" {
		list = append(list, line{w.asked, string(f.Requester)}, line{w.of, string(f.Holder)}, line{w.class, f.Class},
			line{w.outcome, w.term(f.Outcome)})
	}
	if s := f.Denials; s != nil {
		list = append(list, line{w.asked, string(f.Requester)}, line{w.of, string(f.Holder)}, line{w.count, strconv.FormatUint(s.Count, 10)},
			line{w.span, clock(s.From) + " – " + clock(s.To)})
	}
	if f.Fact != "" {
		list = append(list, line{w.fact, f.Fact})
	}
	if d := f.Detail; d != nil {
		list = append(list, line{w.item, string(d.Item)}, line{w.subject, d.Subject}, line{w.views, strings.Join(d.Views, ", ")},
			line{w.purpose, string(d.Purpose)}, line{w.matter, string(d.Matter)}, line{w.case_, string(d.Case)},
			line{w.operator, string(d.Operator)})
		if d.Rule != "" {
			list = append(list, line{w.rule, d.Rule})
		}
		if len(d.Reasons) > 0 {
			list = append(list, line{w.reasons, join(d.Reasons)})
		}
	} else if f.Outcome != "" {
		list = append(list, line{w.item, w.sealed})
	}
	result := w.term(f.Result)
	if f.Because != "" {
		result += " (" + f.Because + ")"
	}
	return append(list, line{w.result, result}, line{w.leaf, f.LeafHash})
}

func (d Evidence) text() []byte {
	zh, en := wordsOf("zh"), wordsOf("en")
	return []byte(zh.title + "\n" + zh.claim + "\n\n" + d.Text("zh") + "\n" + en.title + "\n" + en.claim + "\n\n" + d.Text("en"))
}

func (d Evidence) html() []byte {
	var b strings.Builder
	b.WriteString("<!DOCTYPE html>\n<html lang=\"zh-CN\">\n<head>\n<meta charset=\"utf-8\">\n<title>" +
		html.EscapeString(wordsOf("zh").title) + "</title>\n<style>\n" +
		"body{font-family:sans-serif;max-width:60em;margin:2em auto;padding:0 1em;line-height:1.5}\n" +
		"table{border-collapse:collapse;width:100%;margin:0 0 1.5em}\n" +
		"th{text-align:left;font-weight:normal;color:#555;width:12em;vertical-align:top}\n" +
		"th,td{border-bottom:1px solid #ddd;padding:.25em .5em;overflow-wrap:anywhere}\n" +
		"@media print{table{break-inside:avoid}}\n</style>\n</head>\n<body>\n")
	for _, lang := range []string{"zh", "en"} {
		w := wordsOf(lang)
		fmt.Fprintf(&b, "<section lang=%q>\n<h1>%s</h1>\n<p>%s</p>\n", lang, html.EscapeString(w.title), html.EscapeString(w.claim))
		for _, s := range d.sections(lang) {
			if s.title != "" {
				b.WriteString("<h2>" + html.EscapeString(s.title) + "</h2>\n")
			}
			b.WriteString("<table>\n")
			for _, l := range s.lines {
				b.WriteString("<tr><th>" + html.EscapeString(l.label) + "</th><td>" + html.EscapeString(l.value) + "</td></tr>\n")
			}
			b.WriteString("</table>\n")
		}
		b.WriteString("</section>\n")
	}
	b.WriteString("</body>\n</html>\n")
	return []byte(b.String())
}

func clock(t time.Time) string {
	return t.In(time.FixedZone("", 8*3600)).Format("2006-01-02 15:04:05 -07:00")
}

func join[T ~string](list []T) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = string(s)
	}
	return strings.Join(out, ", ")
}

// Text returns the outcome for a person, in Chinese ("zh") or English ("en").
func (r Report) Text(lang string) string {
	proven, not, file := "已核验：下列内容得到证明。", "未通过核验", "文件"
	if lang == "en" {
		proven, not, file = "PROVEN: what follows is proven.", "NOT PROVEN", "file"
	}
	if r.Proven {
		return proven + "\n" + r.Evidence.Text(lang)
	}
	s := fmt.Sprintf("%s: %s\n", not, r.Reason)
	if r.File != "" {
		s += fmt.Sprintf("  %s: %s\n", file, r.File)
	}
	if r.Detail != "" {
		s += "  " + r.Detail + "\n"
	}
	return s
}
