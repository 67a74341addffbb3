package peer

import (
	"context"
	"errors"
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
	Answer(ctx context.Context, from exchange.Dept, request []byte) ([]byte, error)
}

// Appender proposes a frame that another node has forwarded; ledger/replica
// does. ledger.ErrNotProposed says that this node handed on nothing.
type Appender interface {
	ProposeLocal(ctx context.Context, frame []byte) error
}

// Witness cosigns tree heads and takes cosigned ones.
type Witness interface {
	Cosign(ctx context.Context, size uint64, root gm.Digest) (checkpoint.Cosignature, error)
	Accept(ctx context.Context, note []byte) error
}

// ServerConfig is what a Server needs; every field is required.
type ServerConfig struct {
	Asked    Asked
	Appender Appender
	Witness  Witness
	// PeerOf returns whose connection the listener has authenticated.
	PeerOf func(net.Conn) (exchange.Dept, bool)
	Log    *slog.Logger
}

// Server answers other nodes.
type Server struct {
	cfg  ServerConfig
	http *http.Server
}

type peerKey struct{}

// NewServer returns a server that is not serving yet.
func NewServer(cfg ServerConfig) *Server {
	s := &Server{cfg: cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+pathAsk, s.handle(maxAsk, s.ask))
	mux.HandleFunc("POST "+pathFrame, s.handle(ledger.MaxFrame, s.frame))
	mux.HandleFunc("POST "+pathCosign, s.handle(maxSmall, s.cosign))
	mux.HandleFunc("POST "+pathCheckpoint, s.handle(maxCheckpoint, s.checkpoint))
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second,
		WriteTimeout: 60 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if dept, ok := cfg.PeerOf(c); ok {
				ctx = context.WithValue(ctx, peerKey{}, dept)
			}
			return ctx
		}}
	return s
}

// Serve accepts connections until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops accepting, waits for what is under way, and then closes.
func (s *Server) Shutdown(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// handle reads a bounded body from an authenticated peer. A panic below answers
// with an internal error and harms nobody else.
func (s *Server) handle(limit int64, do func(w http.ResponseWriter, r *http.Request, from exchange.Dept, body []byte)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				s.cfg.Log.Error("panic while answering a peer", "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				writeFailure(w, errors.New("panic"), false)
			}
		}()
		from, ok := r.Context().Value(peerKey{}).(exchange.Dept)
		if !ok {
			writeFailure(w, &exchange.Error{Kind: exchange.Unauthenticated, Code: exchange.CodeCredentials, Msg: "the connection is nobody's"}, true)
			return
		}
		if r.Header.Get("Content-Type") != contentType {
			writeFailure(w, &exchange.Error{Kind: exchange.Unsupported, Code: exchange.CodeContentType, Msg: "the content type is not " + contentType}, true)
			return
		}
		body, err := readBody(r.Body, limit)
		if err != nil {
			writeFailure(w, err, true)
			return
		}
		do(w, r, from, body)
	}
}

func (s *Server) ask(w http.ResponseWriter, r *http.Request, from exchange.Dept, body []byte) {
	out, err := s.cfg.Asked.Answer(r.Context(), from, body)
	if err != nil {
		e := exchange.AsError(err)
		s.cfg.Log.Info("peer asked", "from", string(from), "code", string(e.Code), "err", e)
		writeFailure(w, e, false)
		return
	}
	write(w, http.StatusOK, out)
}

// frame takes a forwarded frame. Any member may carry it: the frame's own
// signature says whose it is.
func (s *Server) frame(w http.ResponseWriter, r *http.Request, _ exchange.Dept, body []byte) {
	err := s.cfg.Appender.ProposeLocal(r.Context(), body)
	switch e := (*exchange.Error)(nil); {
	case err == nil:
		write(w, http.StatusOK, nil)
	case errors.As(err, &e), errors.Is(err, ledger.ErrFormat):
		// Refused before it was proposed: forged, or malformed.
		writeFailure(w, err, true)
	default:
		writeFailure(w, err, errors.Is(err, ledger.ErrNotProposed))
	}
}

func (s *Server) cosign(w http.ResponseWriter, r *http.Request, _ exchange.Dept, body []byte) {
	var h head
	if err := canon.Unmarshal(body, &h); err != nil {
		writeFailure(w, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeField, Msg: "the head is malformed", Err: err}, false)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	c, err := s.cfg.Witness.Cosign(ctx, h.Size, h.Root)
	if err != nil {
		writeFailure(w, err, false)
		return
	}
	write(w, http.StatusOK, canon.MustMarshal(cosigned{Name: c.Name, Time: c.Time.Unix(), Sig: c.Sig, KeyHash: c.KeyHash}))
}

func (s *Server) checkpoint(w http.ResponseWriter, r *http.Request, _ exchange.Dept, body []byte) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.cfg.Witness.Accept(ctx, body); err != nil {
		writeFailure(w, err, false)
		return
	}
	write(w, http.StatusOK, nil)
}
