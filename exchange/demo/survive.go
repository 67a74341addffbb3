package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/api"
	"xinqiao/ledger/checkpoint"
)

// shownMetrics are what the demo prints before and after the kill.
func shownMetrics() []string {
	return []string{"xinqiao_raft_term", "xinqiao_ledger_entries", "xinqiao_ledger_cosigned_entries", `xinqiao_exchanges_total{outcome="allowed"}`}
}

func (s *story) readMetrics(ctx context.Context, dept exchange.Dept) (map[string]string, error) {
	found := map[string]string{}
	for _, name := range shownMetrics() {
		v, err := s.cluster.Metric(ctx, dept, name)
		if err != nil {
			return nil, err
		}
		found[name] = v
	}
	return found, nil
}

func (s *story) readKeys() error {
	s.keys = map[string]gm.PublicKey{}
	for _, site := range s.cluster.Sites {
		s.keys[string(site.Dept)] = site.Key
	}
	return nil
}

// traffic is a stream of exchanges between two departments that only
// replicate, so both outlive any leader.
type traffic struct {
	s         *story
	questions []exchange.Question

	mu    sync.Mutex
	acked []exchange.Receipt // mu protects acked
}

const (
	trafficWorkers = 3
	trafficBefore  = 10 // acknowledged before the kill
	trafficDuring  = 10 // and after it
)

func (s *story) newTraffic(ctx context.Context) (*traffic, error) {
	t := &traffic{s: s}
	for i := range 2 * trafficWorkers {
		form, q, err := Subsidy(i)
		if err != nil {
			return nil, err
		}
		info, err := s.cluster.Client(Renshe).Register(ctx, fmt.Sprintf("demo-traffic-consent-%d", i), form)
		if err != nil {
			return nil, err
		}
		q.Authority = info.ID
		for range ReadsPerConsent {
			t.questions = append(t.questions, q)
		}
	}
	return t, nil
}

func (t *traffic) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.acked)
}

// run asks until stop is closed. A question is asked with its key until it is
// answered, as a department's system would.
func (t *traffic) run(ctx context.Context, stop <-chan struct{}) error {
	var wg sync.WaitGroup
	errs := make(chan error, trafficWorkers)
	for w := range trafficWorkers {
		wg.Go(func() {
			c := t.s.cluster.Client(Renshe)
			for i := w; i < len(t.questions); i += trafficWorkers {
				select {
				case <-stop:
					return
				default:
				}
				a, err := c.Ask(ctx, fmt.Sprintf("demo-traffic-%d", i), t.questions[i])
				if err == nil && a.Outcome != exchange.Allowed {
					err = fmt.Errorf("question %d: %s %v", i, a.Outcome, a.Reasons)
				}
				if err != nil {
					errs <- err
					return
				}
				t.mu.Lock()
				t.acked = append(t.acked, a.Receipt)
				t.mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(errs)
	return errors.Join(<-errs)
}

// survive kills the leader under traffic and shows that nothing acknowledged is
// lost and that the survivors have the same ledger.
func (s *story) survive(ctx context.Context) error {
	t, err := s.newTraffic(ctx)
	if err != nil {
		return err
	}
	leader, err := s.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	if s.before, err = s.readMetrics(ctx, Shuiwu); err != nil {
		return err
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- t.run(ctx, stop) }()
	if err := t.until(ctx, trafficBefore, done); err != nil {
		return err
	}
	acked := t.count()
	s.killed = leader
	killedAt := time.Now()
	if err := s.cluster.Kill(ctx, leader); err != nil {
		return err
	}
	next, err := s.cluster.Leader(ctx)
	if err != nil {
		return err
	}
	gap := time.Since(killedAt)
	if err := t.until(ctx, acked+trafficDuring, done); err != nil {
		return err
	}
	close(stop)
	if err := <-done; err != nil {
		return err
	}
	if s.after, err = s.readMetrics(ctx, Shuiwu); err != nil {
		return err
	}
	s.say("SIGKILL 主节点 %s … %s 在 %.1f 秒后接任, 业务未中断", "SIGKILL the leader %s … %s leads after %.1f s, the exchanges went on", leader, next, gap.Seconds())
	survivors, root, size, err := s.compare(ctx, t.acked)
	if err != nil {
		return err
	}
	s.say("已确认 %d 笔(之前 %d, 期间 %d): 在 %d 个存活节点上按编号全部找到, 树根一致 %s… @%d",
		"%d acknowledged (%d before, %d during): each found by id on all %d survivors, roots equal %s… @%d",
		t.count(), acked, t.count()-acked, survivors, root[:12], size)
	return nil
}

func (t *traffic) until(ctx context.Context, n int, done <-chan error) error {
	for t.count() < n {
		select {
		case err := <-done:
			return errors.Join(errors.New("the traffic ended early"), err)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d exchanges: %w", t.count(), n, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// compare finds every receipt's entry on every node that runs, and waits until
// their newest cosigned tree heads are the same.
func (s *story) compare(ctx context.Context, receipts []exchange.Receipt) (survivors int, root string, size uint64, err error) {
	var alive []exchange.Dept
	for _, site := range s.cluster.Sites {
		if s.cluster.Running(site.Dept) {
			alive = append(alive, site.Dept)
		}
	}
	for {
		heads := map[string]checkpoint.Checkpoint{}
		for _, dept := range alive {
			text, err := s.cluster.Client(dept).Checkpoint(ctx)
			if err != nil {
				return 0, "", 0, err
			}
			note, err := checkpoint.Parse([]byte(text))
			if err != nil {
				return 0, "", 0, err
			}
			heads[string(note.Body())] = note.Checkpoint
		}
		if len(heads) == 1 {
			for _, head := range heads {
				root, size = fmt.Sprintf("%x", head.Root), head.Size
			}
			break
		}
		select {
		case <-ctx.Done():
			return 0, "", 0, fmt.Errorf("the nodes' tree heads stay different: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	for _, dept := range alive {
		c := s.cluster.Client(dept)
		for _, r := range receipts {
			row, err := c.Row(ctx, r.Index)
			if err != nil {
				return 0, "", 0, fmt.Errorf("%s: entry #%d: %w", dept, r.Index, err)
			}
			if row.Entry != r.Entry || row.Leaf != r.LeafHash {
				return 0, "", 0, fmt.Errorf("%s has another entry at #%d than was acknowledged", dept, r.Index)
			}
		}
	}
	return len(alive), root, size, nil
}

// stayUp brings the killed node back, says what to try, and waits.
func (s *story) stayUp(ctx context.Context) error {
	if err := s.cluster.Start(s.killed); err != nil {
		return err
	}
	ready, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := s.cluster.WaitReady(ready, s.killed); err != nil {
		return err
	}
	s.say("%s 已重启并追平台账", "%s is back and has caught up", s.killed)
	if err := s.tryNext(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	s.say("正在停止", "stopping")
	return nil
}

// tryNext prints what a newcomer can do now. The first curl's answer was asked
// for here, so it is real.
func (s *story) tryNext(ctx context.Context) error {
	site := s.cluster.Site(Zhujian)
	answer, err := s.cluster.Client(Zhujian).Answer(ctx, s.denied.ID)
	if err != nil {
		return err
	}
	link, err := s.Login(ctx, site.Config, officer)
	if err != nil {
		return err
	}
	question, err := s.writeQuestion(ctx)
	if err != nil {
		return err
	}
	ca, token := filepath.Join(s.Dir, "web-ca.pem"), filepath.Join(filepath.Dir(site.Config), "token")
	curl := fmt.Sprintf("curl --cacert %s -H \"Authorization: Bearer $(cat %s)\"", ca, token)
	line := func(zh, en, command string) {
		if s.Lang == "en" {
			zh = en
		}
		fmt.Fprintf(s.Out, "  %s\n    %s\n", zh, command)
	}
	fmt.Fprintln(s.Out)
	line("再看一次被拒绝的查询:", "The denied question again:", curl+" "+site.URL+"/api/v1/exchanges/"+s.denied.ID)
	fmt.Fprintf(s.Out, "    → %s %s #%d\n", answer.Outcome, codesOf(answer.Reasons), answer.Receipt.Index)
	line("自己提一个问题(同意书已登记):", "Ask a question of your own (the consent is registered):",
		curl+" -H 'Content-Type: application/json' -H 'Idempotency-Key: my-first-question' -d @"+question+" "+site.URL+"/api/v1/exchanges")
	line("检索台账:", "Search the ledger:", fmt.Sprintf("%s ledger search --outcome denied --node %s --ca %s --token-file %s", s.Exe, site.URL, ca, token))
	line("被拒绝条目的台账页面(一次性登录, 10 分钟内有效; 浏览器会提示证书, 除非信任 web-ca.pem):",
		"Ledger page of the denied entry (one-time login, within 10 minutes; the browser warns unless it trusts web-ca.pem):",
		fmt.Sprintf("%s&next=%%2Fconsole%%2Fentries%%2F%d", link, s.denied.Receipt.Index))
	line("指标(主节点被杀之前 → 之后):", "Metrics (before the leader was killed → after):",
		fmt.Sprintf("curl -s --cacert %s %s/metrics | grep ^xinqiao_", ca, s.cluster.Site(Shuiwu).URL))
	for _, name := range shownMetrics() {
		fmt.Fprintf(s.Out, "    %-48s %s → %s\n", name, s.before[name], s.after[name])
	}
	line("离线验证:", "Verify offline:", fmt.Sprintf("%s %s --trust %s", s.verifier(), filepath.Join(s.Dir, "evidence.zip"), filepath.Join(s.Dir, "trust.json")))
	if s.Lang == "en" {
		fmt.Fprintln(s.Out, "Demo data and throw-away keys only. Ctrl-C ends it.")
	} else {
		fmt.Fprintln(s.Out, "仅为演示数据和一次性密钥。Ctrl-C 结束。")
	}
	return nil
}

// writeQuestion registers a consent of the husband's and writes the question
// that may now be asked under it.
func (s *story) writeQuestion(ctx context.Context) (path string, err error) {
	const number exchange.Case = "ZJ-2026-0418"
	info, err := s.cluster.Client(Zhujian).Register(ctx, "demo-consent-2", consentFor(Husband(), number, 5))
	if err != nil {
		return "", err
	}
	q := questionFor(Husband(), number, info.ID)
	wire := api.Question{Holder: q.Holder, Item: q.Item, Subject: api.Subject{Kind: q.Subject.Kind, ID: q.Subject.ID}, Purpose: q.Purpose,
		Matter: q.Matter, Case: q.Case, Operator: q.Operator, Authority: q.Authority}
	for _, v := range q.Views {
		wire.Fields = append(wire.Fields, api.Field{Field: v.Field, Mode: v.Mode, Predicate: v.Predicate})
	}
	b, err := json.MarshalIndent(wire, "", "  ")
	if err != nil {
		return "", err
	}
	path = filepath.Join(s.Dir, "question.json")
	return path, os.WriteFile(path, b, 0o600)
}
