package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"xinqiao/crypto/canon"
	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/ledger"
	"xinqiao/ledger/checkpoint"
)

// Asked answers another department's signed request; exchange/broker does.
type Asked interface {
	// Answer returns the signed answer to request, which came over from's
	// connection. Denials are answers; an error is for what could not be answered.
	Answer(ctx context.Context, from exchange.Dept, request []byte) ([]byte, error)
}

// Appender takes a frame that another node forwards; ledger/replica does.
type Appender interface {
	// ProposeLocal returns nil once the frame is committed, ledger.ErrNotProposed
	// when it certainly was not handed on, and anything else when that is open.
	ProposeLocal(ctx context.Context, frame []byte) error
}

// Witness cosigns tree heads and takes cosigned checkpoints; ledger.Ledger does.
type Witness interface {
	Cosign(ctx context.Context, size uint64, root gm.Digest) (checkpoint.Cosignature, error)
	Accept(ctx context.Context, note []byte) error
}

// ServerConfig is what a Server needs. A route whose backend is nil answers that
// it is not served; without PeerOf every caller is nobody and is refused.
type ServerConfig struct {
	Asked    Asked
	Appender Appender
	Witness  Witness
	Status   func() Status
	// PeerOf returns whose connection the listener has authenticated.
	PeerOf func(net.Conn) (exchange.Dept, bool)
	Clock  func() time.Time // for the rate of frames; time.Now when nil
	Log    *slog.Logger     // discarded when nil

	// PerDept bounds the calls of one department that run at once, for each
	// route; 64 when zero.
	PerDept int
	// FramesPerSecond bounds the frames that one department forwards; 2000 when
	// zero, with bursts of a second's worth.
	FramesPerSecond int
	// ReadTimeout bounds how long a caller may take to send a request's head,
	// again its body, and to take the answer; 10 s when zero.
	ReadTimeout time.Duration
}

// Server answers other nodes.
type Server struct {
	cfg   ServerConfig
	http  *http.Server
	quota *quota
}

type peerKey struct{}

// NewServer returns a Server that is not serving yet.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.PerDept == 0 {
		cfg.PerDept = 64
	}
	if cfg.FramesPerSecond == 0 {
		cfg.FramesPerSecond = 2000
	}
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 10 * time.Second
	}
	s := &Server{cfg: cfg, quota: newQuota(cfg.PerDept, float64(cfg.FramesPerSecond), cfg.Clock)}
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.serve),
		ReadHeaderTimeout: cfg.ReadTimeout,
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if cfg.PeerOf == nil {
				return ctx
			}
			if dept, ok := cfg.PeerOf(c); ok && dept.Valid() {
				ctx = context.WithValue(ctx, peerKey{}, dept)
			}
			return ctx
		},
	}
	return s
}

// Serve answers on l, which it owns from now on, until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve other nodes: %w", err)
	}
	return nil
}

// Shutdown lets running calls end until ctx does, then closes every connection.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// serve is one call: whose it is, whether it may run now, its body, its answer.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	from, known := r.Context().Value(peerKey{}).(exchange.Dept)
	limit, found := limitsOf(r.URL.Path)
	if e := door(r, known, found); e != nil {
		s.refuse(w, r, from, e)
		return
	}
	release, ok := s.quota.enter(from, r.URL.Path)
	if !ok {
		s.refuse(w, r, from, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy,
			Msg: "too many calls of this department at once", Hint: "try again in a moment"})
		return
	}
	defer release()
	body, err := s.read(w, r, limit.in)
	if err != nil {
		s.refuse(w, r, from, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit.within)
	defer cancel()
	answer, err := s.answer(ctx, from, r.URL.Path, body)
	if err != nil {
		s.refuse(w, r, from, err)
		return
	}
	s.write(w, http.StatusOK, answer)
}

// door refuses what is no call of a department to a route of this version.
func door(r *http.Request, known, found bool) *exchange.Error {
	switch {
	case !known:
		return &exchange.Error{Kind: exchange.Unauthenticated, Code: exchange.CodeCredentials, Msg: "the connection belongs to no department"}
	case !found:
		return &exchange.Error{Kind: exchange.NotFound, Code: exchange.CodeNotFound, Msg: "no such route", Hint: "the nodes' versions may differ"}
	case r.Method != http.MethodPost:
		return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeMethod, Msg: "only POST is understood"}
	case r.Header.Get("Content-Type") != contentType:
		return &exchange.Error{Kind: exchange.Unsupported, Code: exchange.CodeContentType, Msg: "the content type is not " + contentType}
	}
	return nil
}

// read takes a whole body within the time for it: a caller that dribbles holds
// one of its own department's places, and not for long.
func (s *Server) read(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	c := http.NewResponseController(w)
	if err := c.SetReadDeadline(time.Now().Add(s.cfg.ReadTimeout)); err != nil {
		return nil, fmt.Errorf("bound the time for a body: %w", err)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &exchange.Error{Kind: exchange.TooLarge, Code: exchange.CodeTooLarge, Msg: fmt.Sprintf("the message is over the limit of %d bytes", limit)}
	case err != nil:
		return nil, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: "the message did not arrive whole and in time", Err: err}
	}
	return body, nil // net/http lifts the deadline at the body's end
}

// answer runs the route's backend; a panic there is an internal error of this
// call alone.
func (s *Server) answer(ctx context.Context, from exchange.Dept, path string, body []byte) (b []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.cfg.Log.Error("panic while answering a node", "path", path, "from", string(from), "stack", string(debug.Stack()))
			b, err = nil, exchange.AsError(fmt.Errorf("panic of type %T", p)) // its text may hold personal information
		}
	}()
	switch {
	case path == pathAsk && s.cfg.Asked != nil:
		return s.cfg.Asked.Answer(ctx, from, body)
	case path == pathFrame && s.cfg.Appender != nil:
		return nil, s.frame(ctx, from, body)
	case path == pathCosign && s.cfg.Witness != nil:
		return s.cosign(ctx, body)
	case path == pathCheckpoint && s.cfg.Witness != nil:
		var p published
		if err := canon.Unmarshal(body, &p); err != nil {
			return nil, malformed(err)
		}
		return nil, s.cfg.Witness.Accept(ctx, p.Note)
	case path == pathStatus && s.cfg.Status != nil:
		return canon.Marshal(s.cfg.Status())
	}
	return nil, &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy, Msg: "this node does not serve the route now"}
}

// frame tells the caller no more than what its ledger must know: nothing
// happened, or that is open. Any member may carry a frame; the frame's own
// signature says whose it is.
func (s *Server) frame(ctx context.Context, from exchange.Dept, frame []byte) error {
	if !s.quota.spend(from) {
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeBusy, Msg: "too many frames of this department", Hint: "try again in a moment"}
	}
	err := s.cfg.Appender.ProposeLocal(ctx, frame)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ledger.ErrNotProposed):
		return &exchange.Error{Kind: exchange.Unavailable, Code: exchange.CodeNoQuorum, Msg: "the frame was not proposed", Hint: "try again", Err: err}
	}
	return &exchange.Error{Kind: exchange.Undetermined, Code: exchange.CodeUnknownResult, Msg: "whether the frame is committed is not known", Hint: "ask by entry id", Err: err}
}

func (s *Server) cosign(ctx context.Context, body []byte) ([]byte, error) {
	var h head
	if err := canon.Unmarshal(body, &h); err != nil {
		return nil, malformed(err)
	}
	c, err := s.cfg.Witness.Cosign(ctx, h.Size, h.Root)
	if err != nil {
		return nil, err
	}
	return canon.Marshal(cosigned{Name: c.Name, Time: c.Time.Unix(), Sig: c.Sig, KeyHash: c.KeyHash})
}

func malformed(err error) error {
	return &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: "the body is not what the route takes", Err: err}
}

// refuse sends err and, this being the end of its way, logs it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, from exchange.Dept, err error) {
	e := exchange.AsError(err)
	level := slog.LevelDebug
	if e.Kind == exchange.Internal || e.Kind == exchange.Integrity {
		level = slog.LevelWarn
	}
	s.cfg.Log.Log(r.Context(), level, "a node's call failed", "path", r.URL.Path, "from", string(from), "kind", e.Kind.String(), "err", err)
	body, encodeErr := canon.Marshal(failureOf(e))
	if encodeErr != nil || len(body) > maxFailure {
		body = canon.MustMarshal(failure{Kind: e.Kind, Code: e.Code, Msg: "the node's explanation is too long to send"})
	}
	s.write(w, httpStatus(e.Kind), body)
}

func (s *Server) write(w http.ResponseWriter, status int, body []byte) {
	c := http.NewResponseController(w)
	if err := c.SetWriteDeadline(time.Now().Add(s.cfg.ReadTimeout)); err != nil {
		s.cfg.Log.Debug("no deadline for an answer", "err", err)
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if _, err := w.Write(body); err != nil {
		s.cfg.Log.Debug("answer not delivered", "err", err) // the peer asks again
	}
}
