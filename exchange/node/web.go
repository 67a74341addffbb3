package node

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/api"
	"xinqiao/exchange/console"
	"xinqiao/ledger"
	"xinqiao/policy"
)

// openWeb opens the HTTPS listener for department systems, officers and
// Prometheus, and the local socket for this node's administrator.
func (n *Node) openWeb(context.Context) error {
	systems, err := n.systems()
	if err != nil {
		return err
	}
	handler, err := api.New(api.Config{Exchanges: n.broker, Authorities: n.broker, Catalogue: n.broker, Ledger: access{n},
		Systems: systems, Host: n.reachedAs, Population: n.cfg.Population, Explain: policy.Explain, Engine: n.id.engine, Clock: n.clock, Log: n.log,
		Observe: n.metrics.observeRequest})
	if err != nil {
		return err
	}
	pages, err := console.New(console.Config{Self: n.cfg.Department, Ledger: access{n}, Login: n.codes,
		Engines: []gm.Engine{n.id.engine, n.id.second}, Members: n.memberKeys, Explain: policy.Explain, Name: n.departmentName,
		Catalogue: n.broker, Clock: n.clock, Log: n.log, Observe: n.metrics.observeRequest})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", http.RedirectHandler("/console/", http.StatusSeeOther))
	mux.Handle("GET /metrics", promhttp.HandlerFor(n.metrics.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(n.log.Handler(), slog.LevelWarn)}))
	n.health(mux)
	l, err := net.Listen("tcp", n.cfg.Listen.Web)
	if err != nil {
		return fmt.Errorf("listen.web: %w", err)
	}
	server := n.serve("web", faces(handler, pages, mux))
	// Asked for each connection, so that a new certificate needs no restart.
	server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return n.id.web.Load(), nil }}
	n.push("web", server.Shutdown)
	n.wg.Go(func() { n.served("web", server.ServeTLS(l, "", "")) })
	return n.openAdmin()
}

// faces hands a request on by the beginning of its path, as it is: a ServeMux in
// front would answer an unclean path with a redirect in HTML, where the API and
// the pages each have an error of their own.
func faces(api, pages, rest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/"):
			api.ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/console/"):
			pages.ServeHTTP(w, r)
		default:
			rest.ServeHTTP(w, r)
		}
	})
}

// memberKeys returns the signing keys with which members cosign.
func (n *Node) memberKeys(ctx context.Context) (map[string]gm.PublicKey, error) {
	keys := map[string]gm.PublicKey{}
	err := n.ledger.Read(ctx, func(v *ledger.View) error {
		for _, f := range v.All(ledger.FactCert) {
			if m := v.Fact(ledger.FactMember, f.Key); !m.In(v.Now()) || !f.In(v.Now()) {
				continue
			}
			certs, err := ledger.DecodeCerts(f.Content)
			if err != nil {
				return err
			}
			if dept, key, err := n.id.signing(certs.Sign, v.Now()); err == nil && dept == f.Key {
				keys[dept] = key
			}
		}
		return nil
	})
	return keys, err
}

// departmentName is what people call a department, as the authority admitted it.
func (n *Node) departmentName(dept exchange.Dept, lang string) string {
	m, ok := n.members()[dept]
	switch {
	case !ok:
		return string(dept)
	case lang == policy.LangEN:
		return m.NameEN
	}
	return m.Name
}

func (n *Node) serve(name string, h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, WriteTimeout: 60 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 32 << 10, ErrorLog: slog.NewLogLogger(n.log.With("server", name).Handler(), slog.LevelDebug)}
}

func (n *Node) served(name string, err error) {
	if !errors.Is(err, http.ErrServerClosed) {
		n.fail(fmt.Errorf("%s: %w", name, err))
	}
}

// AdminSocket is where the node's administrator reaches it, inside Data: whoever
// may open the socket administers the node.
const AdminSocket = "admin.sock"

// maxSocketPath is what the kernel takes as a socket's path, unix(7).
const maxSocketPath = 107

// administerWithin bounds how long an administrator waits for the ledger.
const administerWithin = 30 * time.Second

// openAdmin opens the local socket. It issues one-time login codes for officers,
// takes new certificates, and carries between the ledger and the authority.
func (n *Node) openAdmin() error {
	path := filepath.Join(n.cfg.Data, AdminSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if len(path) > maxSocketPath {
		return fmt.Errorf("admin socket: the path of the data directory is too long by %d bytes: choose a shorter one", len(path)-maxSocketPath)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(err, l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login-codes", func(w http.ResponseWriter, r *http.Request) {
		officer := r.URL.Query().Get("officer")
		if !slices.Contains(n.cfg.Officers, officer) {
			http.Error(w, "no such officer in the configuration", http.StatusNotFound)
			return
		}
		code, ok := n.codes.Issue(officer)
		if !ok {
			http.Error(w, "too many codes wait to be used", http.StatusServiceUnavailable)
			return
		}
		n.log.Info("login code issued", "officer", officer)
		_, _ = fmt.Fprint(w, code) // the client is gone if it fails
	})
	mux.HandleFunc("POST /certificates", func(w http.ResponseWriter, r *http.Request) {
		administered(w, r, func(ctx context.Context) (Renewed, error) { return n.Renew(ctx, r.URL.Query().Get("forget") == "true") })
	})
	mux.HandleFunc("POST /standing", func(w http.ResponseWriter, r *http.Request) {
		administered(w, r, n.Standing)
	})
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		order, err := io.ReadAll(http.MaxBytesReader(w, r.Body, ledger.MaxFrame))
		if err != nil {
			http.Error(w, "the order is longer than a frame may be, or was cut short", http.StatusRequestEntityTooLarge)
			return
		}
		administered(w, r, func(ctx context.Context) ([]Ordered, error) { return n.Submit(ctx, order) })
	})
	server := n.serve("admin", mux)
	n.push("admin", server.Shutdown)
	n.wg.Go(func() { n.served("admin", server.Serve(l)) })
	return nil
}

// administered answers the administrator with what do returns.
func administered[T any](w http.ResponseWriter, r *http.Request, do func(context.Context) (T, error)) {
	ctx, cancel := context.WithTimeout(r.Context(), administerWithin)
	defer cancel()
	done, err := do(ctx)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(done) // the client is gone if it fails
}

// reachedAs reports whether the web certificate stands for host: callers reach
// this node under no other.
func (n *Node) reachedAs(host string) bool { return n.id.web.Load().Leaf.VerifyHostname(host) == nil }

// systems reads the configured systems into the form the API compares with.
func (n *Node) systems() ([]api.System, error) {
	list := make([]api.System, 0, len(n.cfg.Systems))
	for _, s := range n.cfg.Systems {
		until, err := time.Parse(time.RFC3339, s.Expires)
		if err != nil {
			return nil, fmt.Errorf("system %s: expires: %w", s.Name, err)
		}
		sys := api.System{Name: s.Name, Signed: s.Signed, Scopes: s.Scopes, Expires: until}
		if s.Token != "" {
			hash, err := hex.DecodeString(s.Token)
			if err != nil || len(hash) != gm.HashSize {
				return nil, fmt.Errorf("system %s: token_sm3 is not an SM3 hash of 64 hexadecimal digits", s.Name)
			}
			sys.TokenHash = gm.Digest(hash)
		}
		if s.Key != "" {
			file, err := os.ReadFile(s.Key)
			if err != nil {
				return nil, fmt.Errorf("system %s: key: %w", s.Name, err)
			}
			if sys.Key, err = gm.ParsePublicPEM(file); err != nil {
				return nil, fmt.Errorf("system %s: key: %w", s.Name, err)
			}
		}
		list = append(list, sys)
	}
	return list, nil
}
