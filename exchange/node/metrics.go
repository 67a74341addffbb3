package node

import (
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"xinqiao/crypto/channel"
	"xinqiao/exchange"
	"xinqiao/exchange/broker"
	"xinqiao/ledger"
	"xinqiao/ledger/replica"
	"xinqiao/ledger/store"
)

// metrics are one node's figures, in a registry of its own so that several
// nodes live in one process. Nothing in a label names a person, an operator or
// a case. deploy/METRICS.md lists them; the names are a public interface.
type metrics struct {
	registry  *prometheus.Registry
	exchanges *prometheus.CounterVec
	decide    prometheus.Histogram
	record    prometheus.Histogram
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
}

func newMetrics(n *Node) *metrics {
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &metrics{registry: prometheus.NewRegistry(),
		exchanges: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "xinqiao_exchanges_total",
			Help: "Exchanges that this node decided as holder, by outcome."}, []string{"outcome"}),
		decide: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "xinqiao_exchange_decision_seconds",
			Help: "Time to decide an exchange and prepare its answer.", Buckets: buckets}),
		record: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "xinqiao_ledger_append_seconds",
			Help: "Time from the prepared answer to its entry committed, applied and verified on this node.", Buckets: buckets}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "xinqiao_api_requests_total",
			Help: "Requests to the exchange API, by route pattern and status."}, []string{"route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "xinqiao_api_request_seconds",
			Help: "Time to answer requests to the exchange API.", Buckets: buckets}, []string{"route"}),
	}
	for _, o := range []exchange.Outcome{exchange.Allowed, exchange.NoRecord, exchange.Refused} {
		m.exchanges.WithLabelValues(o.String())
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "xinqiao_build_info", Help: "Always 1; what runs here.",
		ConstLabels: prometheus.Labels{"go": runtime.Version(), "engine": n.id.engine.Name()}})
	info.Set(1)
	m.registry.MustRegister(m.exchanges, m.decide, m.record, m.requests, m.seconds, info, newSampler(n),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) observeExchange(outcome string, decide, record time.Duration) {
	m.exchanges.WithLabelValues(outcome).Inc()
	m.decide.Observe(decide.Seconds())
	m.record.Observe(record.Seconds())
}

func (m *metrics) observeRequest(route string, status int, seconds float64) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.seconds.WithLabelValues(route).Observe(seconds)
}

// sampler reads ledger, Raft, store and certificates when it is scraped: no
// figure is older than the scrape, and none vanishes.
type sampler struct {
	n     *Node
	descs []sample
}

// sample is one figure without, or with one, label.
type sample struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	label []string
	read  func(reading) float64
}

func (s *sampler) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range s.descs {
		ch <- d.desc
	}
}

func (s *sampler) Collect(ch chan<- prometheus.Metric) {
	r := s.n.readFigures()
	for _, d := range s.descs {
		ch <- prometheus.MustNewConstMetric(d.desc, d.kind, d.read(r), d.label...)
	}
}

// reading is what one scrape reads.
type reading struct {
	ledger  ledger.Stats
	replica replica.Stats
	store   store.Stats
	channel channel.Stats
	denials broker.DenialStats
	id      *identity
}

func (n *Node) readFigures() reading {
	return reading{ledger: n.ledger.Stats(), replica: n.replica.Stats(), store: n.store.Stats(), channel: n.end.Stats(), denials: n.broker.Denials(), id: n.id}
}

func newSampler(n *Node) *sampler {
	s := &sampler{n: n}
	add := func(kind prometheus.ValueType, name, help string, read func(reading) float64, label ...string) {
		var names, values []string
		if len(label) == 2 {
			names, values = label[:1], label[1:]
		}
		s.descs = append(s.descs, sample{prometheus.NewDesc("xinqiao_"+name, help, names, nil), kind, values, read})
	}
	gauge := func(name, help string, read func(reading) float64, label ...string) {
		add(prometheus.GaugeValue, name, help, read, label...)
	}
	counter := func(name, help string, read func(reading) float64, label ...string) {
		add(prometheus.CounterValue, name, help, read, label...)
	}
	ledgerFigures(gauge, counter)
	raftFigures(gauge, counter)
	counter("exchange_denials_counted_total", "Denials beyond a requester's quota, counted instead of recorded one by one.", func(r reading) float64 { return float64(r.denials.Counted) })
	counter("exchange_denials_summarised_total", "Denials whose summary this node has put on the ledger.", func(r reading) float64 { return float64(r.denials.Summarised) })
	gauge("ledger_bytes", "Length of the store's file in bytes.", func(r reading) float64 { return float64(r.store.Bytes) })
	gauge("bbolt_free_pages", "Pages of the store's file that can be used again.", func(r reading) float64 { return float64(r.store.FreePages) })
	gauge("bbolt_open_readers", "Read transactions open on the store.", func(r reading) float64 { return float64(r.store.Readers) })
	counter("bbolt_commits_total", "Transactions committed to the store, each one fsynced.", func(r reading) float64 { return float64(r.store.Commits) })
	for outcome, read := range map[string]func(channel.Stats) uint64{
		"ok": func(s channel.Stats) uint64 { return s.OK }, "protocol": func(s channel.Stats) uint64 { return s.Protocol },
		"identity": func(s channel.Stats) uint64 { return s.Identity }, "not_admitted": func(s channel.Stats) uint64 { return s.NotAdmitted },
		"too_many": func(s channel.Stats) uint64 { return s.TooMany },
		"refused":  func(s channel.Stats) uint64 { return s.Refused }, "timeout": func(s channel.Stats) uint64 { return s.TimedOut },
		"shed": func(s channel.Stats) uint64 { return s.Shed }, "failed": func(s channel.Stats) uint64 { return s.Failed },
	} {
		add(prometheus.CounterValue, "channel_handshakes_total", "Handshakes with other nodes, both ways, by how they ended.",
			func(r reading) float64 { return float64(read(r.channel)) }, "outcome", outcome)
	}
	gauge("channel_connections", "Open connections with other nodes.", func(r reading) float64 { return float64(r.channel.Open) })
	for name, end := range map[string]func(*identity) time.Time{
		"sign": func(id *identity) time.Time { return id.creds.Load().sign.NotAfter },
		"enc":  func(id *identity) time.Time { return id.creds.Load().enc.NotAfter },
		"web":  func(id *identity) time.Time { return id.web.Load().Leaf.NotAfter },
	} {
		gauge("certificate_not_after_timestamp_seconds", "When this node's certificate ends, Unix time.",
			func(r reading) float64 { return float64(end(r.id).Unix()) }, "cert", name)
	}
	return s
}

type (
	addGauge   func(name, help string, read func(reading) float64, label ...string)
	addCounter func(name, help string, read func(reading) float64, label ...string)
)

func ledgerFigures(gauge addGauge, counter addCounter) {
	gauge("ledger_entries", "Leaves applied on this node.", func(r reading) float64 { return float64(r.ledger.Size) })
	gauge("ledger_applied_index", "Position in the replicated log applied on this node.", func(r reading) float64 { return float64(r.ledger.Applied) })
	gauge("ledger_verified_entries", "Leaves whose author this node has itself verified.", func(r reading) float64 { return float64(r.ledger.Verified) })
	gauge("ledger_verified_lag_entries", "Leaves applied and not yet verified.", func(r reading) float64 { return float64(r.ledger.Size - r.ledger.Verified) })
	gauge("ledger_cosigned_entries", "Leaves covered by a checkpoint with a quorum of cosignatures.", func(r reading) float64 { return float64(r.ledger.CosignedSize) })
	gauge("ledger_cosigned_lag_entries", "Leaves applied and not yet covered by a cosigned checkpoint.", func(r reading) float64 {
		return float64(r.ledger.Size - min(r.ledger.Size, r.ledger.CosignedSize))
	})
	gauge("ledger_checkpoint_timestamp_seconds", "When this node accepted the newest cosigned checkpoint, Unix time; 0 before the first.", func(r reading) float64 { return unix(r.ledger.CosignedTime) })
	gauge("ledger_lagging_witnesses", "Members whose cosignature the checkpoints have gone without for over a minute.", func(r reading) float64 { return float64(len(r.ledger.Lagging)) })
	gauge("ledger_halted", "1 when this node's ledger has halted: it releases and cosigns nothing.", func(r reading) float64 { return flag(r.ledger.Halted) })
	counter("ledger_verification_failures_total", "Frames whose signature or certificate did not hold.", func(r reading) float64 { return float64(r.ledger.VerifyFailures) })
	counter("ledger_split_views_total", "Tree heads with a quorum of cosignatures that contradict this node's own: a fork.", func(r reading) float64 { return float64(r.ledger.SplitViews) })
	counter("ledger_refused_heads_total", "Tree heads that this node was asked to cosign and that contradict its own.", func(r reading) float64 { return float64(r.ledger.RefusedHeads) })
	counter("ledger_conflicts_total", "Entry ids used again for other content.", func(r reading) float64 { return float64(r.ledger.Conflicts) })
	for _, p := range ledger.Pressures() {
		counter("ledger_busy_total", "Entries and frames refused because something was full, by what.", func(r reading) float64 { return float64(r.ledger.Busy[p]) },
			"pressure", string(p))
	}
	counter("ledger_late_frames_total", "Frames committed and left out, because nobody had witnessed the leader's time.", func(r reading) float64 { return float64(r.ledger.LateFrames) })
	gauge("ledger_witnessed_timestamp_seconds", "Newest time that a quorum or the authority has witnessed, Unix time; 0 before the first leaf.", func(r reading) float64 { return unix(r.ledger.Witnessed) })
	counter("crypto_engine_mismatch_total", "Signatures on which the two engines disagreed.", func(r reading) float64 { return float64(r.ledger.EngineMismatches) })
}

func raftFigures(gauge addGauge, counter addCounter) {
	for _, state := range []string{"Follower", "Candidate", "Leader", "Shutdown"} {
		gauge("raft_state", "1 for the state this node's Raft is in.", func(r reading) float64 { return flag(r.replica.State == state) },
			"state", strings.ToLower(state))
	}
	gauge("raft_leader", "1 when this node knows a leader.", func(r reading) float64 { return flag(r.replica.Leader != "") })
	gauge("raft_term", "Raft term.", func(r reading) float64 { return float64(r.replica.Term) })
	gauge("raft_commit_index", "Last committed position known here.", func(r reading) float64 { return float64(r.replica.CommitIndex) })
	gauge("raft_applied_index", "Last position handed to the ledger.", func(r reading) float64 { return float64(r.replica.Applied) })
	gauge("raft_last_contact_seconds", "Since the leader was last heard; 0 on the leader.", func(r reading) float64 { return r.replica.LastContact.Seconds() })
	gauge("raft_peers", "Servers in the Raft configuration.", func(r reading) float64 { return float64(r.replica.Voters) }, "suffrage", "voter")
	gauge("raft_peers", "Servers in the Raft configuration.", func(r reading) float64 { return float64(r.replica.Replicas) }, "suffrage", "nonvoter")
	gauge("raft_unsigned_voters", "Voters that no signed member entry names.", func(r reading) float64 { return float64(len(r.replica.Unsigned)) })
	gauge("raft_unpromoted_voters", "Members signed as voters that have no vote yet.", func(r reading) float64 { return float64(len(r.replica.Unpromoted)) })
	counter("raft_batches_total", "Commands committed here as leader.", func(r reading) float64 { return float64(r.replica.Batches) })
	counter("raft_busy_total", "Frames refused because the leader's queue was full.", func(r reading) float64 { return float64(r.replica.Busy) })
	counter("raft_refused_frames_total", "Frames refused before they were proposed.", func(r reading) float64 { return float64(r.replica.RefusedFrames) })
	counter("raft_refused_peers_total", "Raft connections refused.", func(r reading) float64 { return float64(r.replica.RefusedPeers) })
}

// unix is t in seconds, 0 for the zero time.
func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
