package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"xinqiao/ledger/replica"
)

// Options are the choices of a run.
type Options struct {
	Dir       string        // empty, and on the disk that is meant
	For       time.Duration // of measuring; opening and closing come on top
	Appenders int
	Full      bool // the leader's crashes and planned restarts as well
	// Progress is told what is being done; it may be nil.
	Progress func(format string, args ...any)
}

// Report is what a run found. Rates are entries a second, times milliseconds.
type Report struct {
	// The contract of the command.
	LimitRatio       float64 `json:"limit_ratio"`   // over the lower of the two limits; median of the rounds
	LatencyRatio     float64 `json:"latency_ratio"` // median at one appender on the leader over bare raft's; median of the rounds
	EntriesPerSecond float64 `json:"entries_per_second"`
	P50              float64 `json:"p50_ms"` // with all appenders, from entry to receipt
	P99              float64 `json:"p99_ms"`

	Limit           string  `json:"limit"` // which of the two was the lower: raft or crypto
	BareRaft        float64 `json:"bare_raft_per_second"`
	Crypto          float64 `json:"crypto_limit_per_second"` // cores over the CPU below
	CryptoMicros    float64 `json:"crypto_us_per_entry"`     // on all three nodes
	CPUMicros       float64 `json:"cpu_us_per_entry"`        // that the process really used
	OneP50          float64 `json:"one_appender_p50_ms"`
	OneP99          float64 `json:"one_appender_p99_ms"`
	BareOneP50      float64 `json:"bare_one_p50_ms"`
	ForwardedP50    float64 `json:"one_appender_forwarded_p50_ms"` // on a node that does not lead
	EntriesPerFrame float64 `json:"entries_per_frame"`
	FramesPerBatch  float64 `json:"frames_per_batch"`

	Appenders  int     `json:"appenders"`
	Cores      int     `json:"cores"`
	EntryBytes int     `json:"entry_bytes"`
	Entries    int     `json:"entries"` // appended with all appenders
	Checked    Checked `json:"checked"`
	Prices     Prices  `json:"prices_us"`
	Rounds     []Round `json:"rounds"`
	Faults     *Faults `json:"faults,omitempty"` // of a full run
}

// Checked is what the run really did on all nodes, with all appenders.
type Checked struct {
	Frames         uint64 `json:"frames"`
	Verifications  uint64 `json:"verifications"`
	SecondVerdicts uint64 `json:"second_verdicts"`
	Cosignatures   uint64 `json:"cosignatures"`
	Hashes         uint64 `json:"hashes"`
	HashedBytes    uint64 `json:"hashed_bytes"`
}

// Prices are microseconds of CPU for one operation alone.
type Prices struct {
	Sign         float64 `json:"sm2_sign"`
	Verify       float64 `json:"sm2_verify"`
	SecondVerify float64 `json:"sm2_verify_second"`
	EntryHash    float64 `json:"sm3_entry"`
	LeafHash     float64 `json:"sm3_leaf"`
	NodeHash     float64 `json:"sm3_node"`
}

// Round is one turn of everything that is compared.
type Round struct {
	EntriesPerSecond float64 `json:"entries_per_second"`
	BareRaft         float64 `json:"bare_raft_per_second"`
	Crypto           float64 `json:"crypto_limit_per_second"`
	LimitRatio       float64 `json:"limit_ratio"`
	LatencyRatio     float64 `json:"latency_ratio"`
}

// Run measures in rounds: ledger and limits take turns, so that whatever else
// the machine does meets all of them.
func Run(ctx context.Context, o Options) (r Report, err error) {
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	o.Progress("opening three ledgers and bare raft")
	// Three nodes are three processes, which the system lets run in turn. In one
	// process with a thread for each core they would wait behind each other's
	// signatures instead; bare raft gets as many.
	cores := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(len(depts()) * cores))
	c, err := openCluster(ctx, filepath.Join(o.Dir, "ledger-"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	b, err := replica.OpenBare(filepath.Join(o.Dir, "bare"))
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	m := &measuring{o: o, c: c, bare: b, cores: cores}
	// Connections, caches and the first pages of the files are no part of it.
	if _, err := c.many(ctx, o.Appenders, o.For/30); err != nil {
		return r, err
	}
	if _, err := bare(ctx, b, o.Appenders, o.For/30); err != nil {
		return r, err
	}
	for i := range rounds {
		if err := m.round(ctx); err != nil {
			return r, err
		}
		last := m.rounds[i]
		o.Progress("round %d of %d: %.0f entries/s, bare raft %.0f, cryptography %.0f", i+1, rounds, last.EntriesPerSecond, last.BareRaft, last.Crypto)
	}
	r = m.report()
	if o.Full {
		o.Progress("taking the leader away")
		r.Faults, err = faults(ctx, filepath.Join(o.Dir, "faults-"))
	}
	return r, err
}

// rounds of a run; odd, so that the median is one of them.
const rounds = 5

type measuring struct {
	o     Options
	c     *cluster
	bare  *replica.Bare
	cores int

	rounds                                  []Round
	many, bareMany, one, bareOne, forwarded load
	did                                     Checked
	batches                                 uint64
	cpu                                     time.Duration
	prices                                  []prices
}

// round takes a fifth of the time: two parts of five for the ledger under load,
// one for bare raft under load, the rest for one appender and the prices.
func (m *measuring) round(ctx context.Context) error {
	part := m.o.For / rounds / 20
	before, batches, cpu := m.now(), m.committed(), processCPU()
	many, err := m.c.many(ctx, m.o.Appenders, 8*part)
	if err != nil {
		return err
	}
	m.cpu += processCPU() - cpu
	m.batches += m.committed() - batches
	did := m.now().minus(before)
	bareMany, err := bare(ctx, m.bare, m.o.Appenders, 4*part)
	if err != nil {
		return fmt.Errorf("bare raft: %w", err)
	}
	p, err := sample(m.c.realm.parties[depts()[0]].keys, m.cores, 2*part)
	if err != nil {
		return err
	}
	one, err := m.alone(ctx, true, 3*part)
	if err != nil {
		return err
	}
	bareOne, err := bare(ctx, m.bare, 1, 2*part)
	if err != nil {
		return fmt.Errorf("bare raft: %w", err)
	}
	forwarded, err := m.alone(ctx, false, part)
	if err != nil {
		return err
	}
	need := needs{entries: many.entries, frames: did.Frames, seconds: did.SecondVerdicts, cosigned: did.Cosignatures}
	limit := float64(m.cores) / p.perEntry(need, len(depts())).Seconds()
	m.rounds = append(m.rounds, Round{EntriesPerSecond: many.rate(), BareRaft: bareMany.rate(), Crypto: limit,
		LimitRatio:   many.rate() / min(bareMany.rate(), limit),
		LatencyRatio: float64(one.quantile(0.5)) / float64(bareOne.quantile(0.5))})
	m.many.add(many)
	m.bareMany.add(bareMany)
	m.one.add(one)
	m.bareOne.add(bareOne)
	m.forwarded.add(forwarded)
	m.did = m.did.plus(did)
	m.prices = append(m.prices, p)
	return nil
}

// alone appends one after the other on the leading node or on another one.
func (m *measuring) alone(ctx context.Context, leading bool, d time.Duration) (load, error) {
	leader := m.c.leader()
	if leader == nil {
		return load{}, errors.New("no node leads")
	}
	n := leader
	if !leading {
		for _, d := range depts() {
			if d != leader.dept {
				n = m.c.node(d)
			}
		}
	}
	return spell(ctx, 1, d, func(ctx context.Context, _ int) error { return n.append(ctx) }, nil)
}

func (m *measuring) now() Checked {
	t := m.c.tally
	frames := t.frames.Load()
	return Checked{Frames: frames, Verifications: t.first.verified.Load(), SecondVerdicts: t.second.verified.Load(),
		Cosignatures: t.signed.Load() - frames, Hashes: t.first.hashed.Load(), HashedBytes: t.first.bytes.Load()}
}

func (c Checked) minus(o Checked) Checked {
	return Checked{c.Frames - o.Frames, c.Verifications - o.Verifications, c.SecondVerdicts - o.SecondVerdicts,
		c.Cosignatures - o.Cosignatures, c.Hashes - o.Hashes, c.HashedBytes - o.HashedBytes}
}

func (c Checked) plus(o Checked) Checked {
	return Checked{c.Frames + o.Frames, c.Verifications + o.Verifications, c.SecondVerdicts + o.SecondVerdicts,
		c.Cosignatures + o.Cosignatures, c.Hashes + o.Hashes, c.HashedBytes + o.HashedBytes}
}

// committed is how many commands the nodes have brought through raft.
func (m *measuring) committed() (n uint64) {
	for _, d := range depts() {
		n += m.c.node(d).replica.Stats().Batches
	}
	return n
}

func (m *measuring) report() Report {
	r := Report{Appenders: m.o.Appenders, Cores: m.cores, EntryBytes: EntrySize, Entries: m.many.entries,
		Checked: m.did, Rounds: m.rounds,
		LimitRatio:       median(m.rounds, func(r Round) float64 { return r.LimitRatio }),
		LatencyRatio:     median(m.rounds, func(r Round) float64 { return r.LatencyRatio }),
		Crypto:           median(m.rounds, func(r Round) float64 { return r.Crypto }),
		EntriesPerSecond: m.many.rate(), P50: ms(m.many.quantile(0.5)), P99: ms(m.many.quantile(0.99)),
		BareRaft: m.bareMany.rate(), OneP50: ms(m.one.quantile(0.5)), OneP99: ms(m.one.quantile(0.99)),
		BareOneP50: ms(m.bareOne.quantile(0.5)), ForwardedP50: ms(m.forwarded.quantile(0.5))}
	if r.Limit = "raft"; r.Crypto < r.BareRaft {
		r.Limit = "crypto"
	}
	r.CryptoMicros = float64(r.Cores) / r.Crypto * 1e6
	r.CPUMicros = float64(m.cpu.Microseconds()) / float64(m.many.entries)
	r.EntriesPerFrame = float64(m.many.entries) / float64(m.did.Frames)
	r.FramesPerBatch = float64(m.did.Frames) / float64(m.batches)
	price := func(of func(prices) time.Duration) float64 {
		return median(m.prices, func(p prices) float64 { return float64(of(p).Nanoseconds()) / 1e3 })
	}
	r.Prices = Prices{Sign: price(func(p prices) time.Duration { return p.sign }), Verify: price(func(p prices) time.Duration { return p.verify }),
		SecondVerify: price(func(p prices) time.Duration { return p.second }), EntryHash: price(func(p prices) time.Duration { return p.entry }),
		LeafHash: price(func(p prices) time.Duration { return p.leaf }), NodeHash: price(func(p prices) time.Duration { return p.node })}
	return r
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func median[T any](list []T, of func(T) float64) float64 {
	values := make([]float64, len(list))
	for i, v := range list {
		values[i] = of(v)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
