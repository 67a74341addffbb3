package ledger

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
)

// TestSplitIsReported: the leader refuses a fact about whose signature the
// engines disagree, whichever of them accepts, counts it and logs both verdicts.
func TestSplitIsReported(t *testing.T) {
	t.Parallel()
	for name, rejects := range map[string]func(*Config) *gm.Engine{
		"the first rejects":  func(c *Config) *gm.Engine { return &c.Engine },
		"the second rejects": func(c *Config) *gm.Engine { return &c.Second },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			var other string
			config := func(c *Config) {
				if c.Self != depts()[0] {
					return
				}
				c.Log = slog.New(slog.NewJSONHandler(&log, nil))
				e := rejects(c)
				*e = biased{*e, func(msg []byte) bool { return !bytes.Contains(msg, []byte("zhujian")) }}
				for _, e := range []gm.Engine{c.Engine, c.Second} {
					if e.Name() != "biased" {
						other = e.Name()
					}
				}
			}
			inWorld(t, worldConfig{config: config, bare: true}, func(t *testing.T, w *world) {
				for _, entries := range w.realm.founding() {
					if entries[0].Author == exchange.Authority {
						w.write(exchange.Authority, entries...)
					}
				}
				n := w.leader()
				frame := w.realm.parties["zhujian"].frameOf(t, w.last("zhujian"), withdrawConsent("zhujian"))
				if err := n.CheckFrame(frame); exchange.KindOf(err) != exchange.Forged {
					t.Errorf("the leader would propose it: %v", err)
				}
				if s := n.Stats(); s.EngineMismatches != 1 {
					t.Errorf("%d mismatches are counted", s.EngineMismatches)
				}
				var line map[string]any
				if err := json.Unmarshal(log.Bytes(), &line); err != nil {
					t.Fatalf("%v: %s", err, log.Bytes())
				}
				if line["biased"] != false || line[other] != true {
					t.Errorf("the log gives the verdicts as %s", log.Bytes())
				}
			})
		})
	}
}
