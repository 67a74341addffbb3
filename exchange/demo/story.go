package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger/checkpoint"
	"xinqiao/ledger/merkle"
	"xinqiao/ledger/verify"
	"xinqiao/policy"
)

// Options choose how the demo runs.
type Options struct {
	Dir    string // kept when it is set; a temporary one is removed otherwise
	Exe    string // the xinqiao binary that the nodes run
	Engine string // "auto" or "tjfoc"
	Lang   string // "zh" or "en"
	Once   bool   // end after the story, with everything stopped
	Out    io.Writer
	// Login returns a one-time link to a node's ledger pages.
	Login func(ctx context.Context, configPath, officer string) (url string, err error)
}

// story is one run: every line it prints is taken from what the nodes answered.
type story struct {
	Options
	start     time.Time
	cluster   *Cluster
	engine    gm.Engine
	keys      map[string]gm.PublicKey // of the members, from trust.json's certificates
	allowed   exchange.Answer
	denied    exchange.Answer
	deniedFor string
	consent   exchange.AuthorityInfo
	before    map[string]string // metrics before the kill
	after     map[string]string
	killed    exchange.Dept
}

// Run plays the demo. It returns an error as soon as anything is not as it
// promises, so it is the end-to-end test as well.
func Run(ctx context.Context, o Options) (err error) {
	s := &story{Options: o, start: time.Now()}
	if s.engine, _, err = gm.ByName(o.Engine); err != nil {
		return err
	}
	if s.Dir == "" {
		if s.Dir, err = os.MkdirTemp("", "xinqiao-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(s.Dir)) }()
	} else if err := emptyDir(s.Dir); err != nil {
		return err
	}
	network, err := Setup(s.Dir, o.Engine, time.Now())
	if err != nil {
		return err
	}
	if s.cluster, err = NewCluster(network, o.Exe); err != nil {
		return err
	}
	defer s.cluster.Stop()
	for _, scene := range []func(context.Context) error{s.nodesUp, s.giveConsent, s.allow, s.deny, s.withdraw, s.survive, s.prove} {
		within, cancel := context.WithTimeout(ctx, 60*time.Second)
		err := scene(within)
		cancel()
		if ctx.Err() != nil {
			return errors.New("stopped before the story had ended")
		}
		if err != nil {
			return fmt.Errorf("after %.1f s: %w", time.Since(s.start).Seconds(), err)
		}
	}
	if o.Once {
		return nil
	}
	return s.stayUp(ctx)
}

// emptyDir makes dir, or refuses one that has something in it: a demo must not
// write into what somebody keeps.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	names, err := os.ReadDir(dir)
	if err == nil && len(names) > 0 {
		err = fmt.Errorf("the directory %s is not empty: name a new one", dir)
	}
	return err
}

// say prints a line with the time since the start, in the language chosen.
func (s *story) say(zh, en string, args ...any) {
	text := zh
	if s.Lang == "en" {
		text = en
	}
	fmt.Fprintf(s.Out, "[%5.1fs] %s\n", time.Since(s.start).Seconds(), fmt.Sprintf(text, args...))
}

func (s *story) nodesUp(ctx context.Context) error {
	var all []exchange.Dept
	for _, site := range s.cluster.Sites {
		if err := s.cluster.Start(site.Dept); err != nil {
			return err
		}
		all = append(all, site.Dept)
	}
	if err := s.cluster.WaitReady(ctx, all...); err != nil {
		return err
	}
	leader, err := s.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	term, err := s.cluster.Metric(ctx, leader, "xinqiao_raft_term")
	if err != nil {
		return err
	}
	s.say("%d 个节点已就绪(3 个投票节点, 3 个副本节点), 每个都是独立进程; 主节点 = %s, 任期 %s",
		"%d nodes ready (3 vote, 3 replicate), a process each; leader = %s, term %s", len(all), leader, term)
	items, err := s.cluster.Client(Zhujian).Catalogue(ctx, "")
	if err != nil {
		return err
	}
	s.say("目录 %d 项, 已签发材料 %d 份, 加密引擎 %s", "%d catalogue items, %d materials issued, crypto engine %s",
		len(items), s.cluster.Issued, s.engine.Name())
	return s.readKeys()
}

// consentFor is the couple's consent: two fields, one case, at a window.
func consentFor(subject exchange.Subject, number exchange.Case, reads uint32) exchange.ConsentForm {
	view := func(f exchange.Field) exchange.ItemView {
		return exchange.ItemView{Item: MarriageRecord, View: exchange.View{Field: f, Mode: exchange.Value}}
	}
	return exchange.ConsentForm{Provider: Minzheng, Subject: subject, Matter: StoryMatter, Case: number,
		Purposes: []exchange.Purpose{StoryPurpose}, Views: []exchange.ItemView{view("marital_status"), view("spouse_name")},
		NotAfter: time.Now().Add(72 * time.Hour), MaxReads: reads, Channel: "window", Officers: []exchange.Operator{operator, "op-0502"},
		Notice:   exchange.Notice{Template: "N-17", Version: 4, Hash: strings.Repeat("5a", 32), Lang: "zh-CN"},
		Evidence: []string{strings.Repeat("a5", 32)}}
}

func questionFor(subject exchange.Subject, number exchange.Case, authority string) exchange.Question {
	return exchange.Question{Holder: Minzheng, Item: MarriageRecord, Subject: subject, Purpose: StoryPurpose, Matter: StoryMatter,
		Case: number, Operator: operator, Authority: authority, Views: []exchange.View{
			{Field: "marital_status", Mode: exchange.Value}, {Field: "spouse_name", Mode: exchange.Value}}}
}

func (s *story) giveConsent(ctx context.Context) (err error) {
	s.consent, err = s.cluster.Client(Zhujian).Register(ctx, "demo-consent-1", consentFor(Wife(), StoryCase, 5))
	if err != nil {
		return err
	}
	s.say("住建 登记同意书: 案件 %s, 向民政查询婚姻登记 2 个字段 → 台账 #%d", "housing registers a consent: case %s, two fields of the marriage record at civil affairs → ledger #%d",
		StoryCase, s.consent.Receipt.Index)
	return nil
}

func (s *story) allow(ctx context.Context) (err error) {
	s.allowed, err = s.cluster.Client(Zhujian).Ask(ctx, "demo-ask-1", questionFor(Wife(), StoryCase, s.consent.ID))
	if err != nil {
		return err
	}
	if s.allowed.Outcome != exchange.Allowed || len(s.allowed.Fields) != 2 {
		return fmt.Errorf("the marriage record: outcome %s with %d fields, want allowed with 2", s.allowed.Outcome, len(s.allowed.Fields))
	}
	cosigners, err := s.checkReceipt(ctx, Zhujian, s.allowed.Receipt)
	if err != nil {
		return err
	}
	var shown []string
	for _, f := range s.allowed.Fields {
		shown = append(shown, string(f.View.Field)+"="+f.Value)
	}
	s.say("住建 → 民政 婚姻登记  准予  11 个字段给出 2 个: %s  回执 #%d ✓ 已在本地验证(%d 个部门会签)",
		"housing → civil affairs, marriage record  ALLOW  2 of 11 fields: %s  receipt #%d ✓ verified locally (%d departments cosigned)",
		strings.Join(shown, ", "), s.allowed.Receipt.Index, cosigners)
	return nil
}

func (s *story) deny(ctx context.Context) (err error) {
	s.denied, err = s.cluster.Client(Zhujian).Ask(ctx, "demo-ask-2", questionFor(Husband(), "ZJ-2026-0999", ""))
	if err != nil {
		return err
	}
	if s.denied.Outcome != exchange.Refused || len(s.denied.Reasons) == 0 {
		return fmt.Errorf("a question without consent: outcome %s, want denied", s.denied.Outcome)
	}
	code := exchange.Code("")
	for _, r := range s.denied.Reasons {
		if r.Code == exchange.DenyNoAuthority {
			code = r.Code
		}
	}
	if code == "" {
		return fmt.Errorf("a question without consent was denied for %v", s.denied.Reasons)
	}
	s.deniedFor = codesOf(s.denied.Reasons)
	_, _, remedy := policy.Explain(code, s.policyLang())
	s.say("住建 → 民政 无同意书     拒绝  %s  台账 #%d  办法: %s", "housing → civil affairs, no consent  DENY  %s  ledger #%d  remedy: %s",
		s.deniedFor, s.denied.Receipt.Index, remedy)
	return nil
}

// codesOf lists the codes of all reasons.
func codesOf(reasons []exchange.Reason) string {
	var codes []string
	for _, r := range reasons {
		codes = append(codes, string(r.Code))
	}
	return strings.Join(codes, " ")
}

func (s *story) policyLang() string {
	if s.Lang == "en" {
		return "en"
	}
	return "zh-CN"
}

// withdraw takes the consent back at another department's window than the one
// that registered it.
func (s *story) withdraw(ctx context.Context) error {
	info, err := s.cluster.Client(Minzheng).Withdraw(ctx, s.consent.ID, "withdrawn_by_subject")
	if err != nil {
		return err
	}
	again, err := s.cluster.Client(Zhujian).Ask(ctx, "demo-ask-3", questionFor(Wife(), StoryCase, s.consent.ID))
	if err != nil {
		return err
	}
	if again.Outcome != exchange.Refused || again.Receipt.Index <= info.Receipt.Index {
		return fmt.Errorf("after the withdrawal at #%d: outcome %s at #%d", info.Receipt.Index, again.Outcome, again.Receipt.Index)
	}
	s.say("民政窗口 撤回同意 → 台账 #%d; 住建 再问 → 拒绝 %s, 台账 #%d", "consent withdrawn at civil affairs → ledger #%d; housing asks again → DENY %s, ledger #%d",
		info.Receipt.Index, again.Reasons[0].Code, again.Receipt.Index)
	return nil
}

// checkReceipt verifies a receipt here, trusting no node: the leaf's hash, its
// path to the root, and a quorum of other departments' cosignatures.
func (s *story) checkReceipt(ctx context.Context, at exchange.Dept, r exchange.Receipt) (cosigners int, err error) {
	p, err := s.cluster.Client(at).Proof(ctx, r.Index)
	if err != nil {
		return 0, err
	}
	note, err := checkpoint.Parse([]byte(p.Checkpoint))
	if err != nil {
		return 0, err
	}
	valid, err := checkpoint.Verify([]gm.Engine{gm.Emmansun(), gm.Tjfoc()}, note, s.keys, checkpoint.Quorum(len(s.keys)))
	if err != nil {
		return 0, err
	}
	path := make([]gm.Digest, len(p.Path))
	for i, h := range p.Path {
		if len(h) != gm.HashSize {
			return 0, errors.New("a hash of the proof has the wrong length")
		}
		path[i] = gm.Digest(h)
	}
	hash := merkle.LeafHash(s.engine, p.Leaf)
	if fmt.Sprintf("%x", hash) != r.LeafHash {
		return 0, errors.New("the receipt names another leaf than the ledger has")
	}
	return len(valid), merkle.VerifyInclusion(s.engine, hash, r.Index, p.Size, path, note.Root)
}

// prove writes the evidence file and has it verified, as it is and with one
// byte changed.
func (s *story) prove(ctx context.Context) error {
	from := Zhujian
	if s.killed == Zhujian {
		from = Minzheng
	}
	file, err := s.cluster.Client(from).Evidence(ctx, s.allowed.Receipt.Index, s.denied.Receipt.Index)
	if err != nil {
		return err
	}
	path, trust := filepath.Join(s.Dir, "evidence.zip"), filepath.Join(s.Dir, "trust.json")
	if err := os.WriteFile(path, file, 0o644); err != nil {
		return err
	}
	text, code, err := s.xqverify(ctx, path, trust)
	if err != nil {
		return err
	}
	s.say("$ %s %s --trust %s", "$ %s %s --trust %s", s.verifier(), path, trust)
	fmt.Fprint(s.Out, indent(text))
	if code != 0 {
		return fmt.Errorf("xqverify exits with %d on the evidence", code)
	}
	bad := bytes.Clone(file)
	bad[len(bad)/2] ^= 1
	badPath := filepath.Join(s.Dir, "evidence-tampered.zip")
	if err := os.WriteFile(badPath, bad, 0o644); err != nil {
		return err
	}
	text, code, err = s.xqverify(ctx, badPath, trust)
	if err != nil {
		return err
	}
	s.say("$ %s %s --trust %s   # 改动了一个字节 → 退出码 %d", "$ %s %s --trust %s   # one byte changed → exit %d", s.verifier(), badPath, trust, code)
	fmt.Fprint(s.Out, indent(text))
	if code != 3 {
		return fmt.Errorf("xqverify exits with %d on tampered evidence, want 3", code)
	}
	return nil
}

// goRun is how to run the verifier where it was not built.
const goRun = "go run ./cmd/xqverify"

// verifier is what a reader types to verify: the program beside this one.
func (s *story) verifier() string {
	exe := filepath.Join(filepath.Dir(s.Exe), "xqverify")
	if _, err := os.Stat(exe); err != nil {
		return goRun
	}
	return exe
}

// xqverify runs the verifier that lies beside the xinqiao binary. Where there
// is none (go run builds one binary at a time) it checks in this process, with
// the same code.
func (s *story) xqverify(ctx context.Context, file, trust string) (text string, code int, err error) {
	if exe := s.verifier(); exe != goRun {
		out, err := exec.CommandContext(ctx, exe, file, "--trust", trust, "--lang", s.Lang).CombinedOutput()
		exit := (*exec.ExitError)(nil)
		if errors.As(err, &exit) {
			return string(out), exit.ExitCode(), nil
		}
		return string(out), 0, err
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", 0, err
	}
	trusted, err := os.ReadFile(trust)
	if err != nil {
		return "", 0, err
	}
	t, err := verify.ParseTrust(trusted)
	if err != nil {
		return "", 0, err
	}
	report, err := verify.Run(raw, t)
	if err != nil {
		return report.Text(s.Lang), 3, nil
	}
	return report.Text(s.Lang), 0, nil
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("         " + line)
	}
	return b.String()
}
