package console

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"sync"
	"time"

	"xinqiao/crypto/gm"
)

const (
	sessionCookie = "__Host-xinqiao-session"
	idle          = 15 * time.Minute
	longest       = 8 * time.Hour // whatever the activity
)

// sessions are held in memory, by the hash of their token: a restart ends them
// all, and a dump of memory holds no token.
type sessions struct {
	engine gm.Engine
	clock  func() time.Time

	mu sync.Mutex
	// mu protects open.
	open map[gm.Digest]*session
}

type session struct {
	officer  string
	began    time.Time
	lastSeen time.Time
}

func (s *sessions) live(v *session, now time.Time) bool {
	return now.Sub(v.lastSeen) < idle && now.Sub(v.began) < longest
}

// begin ends the officer's other session, if any, and returns a new token.
func (s *sessions) begin(officer string) string {
	var b [32]byte
	rand.Read(b[:]) // never fails
	token := base64.RawURLEncoding.EncodeToString(b[:])
	now := s.clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range s.open {
		if v.officer == officer || !s.live(v, now) {
			delete(s.open, k)
		}
	}
	s.open[s.engine.Sum([]byte(token))] = &session{officer: officer, began: now, lastSeen: now}
	return token
}

// officer returns whose session the request carries and keeps it from idling
// out.
func (s *sessions) officer(r *http.Request) (string, bool) {
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", false
	}
	now := s.clock()
	key := s.engine.Sum([]byte(c.Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.open[key]
	if v == nil {
		return "", false
	}
	if !s.live(v, now) {
		delete(s.open, key)
		return "", false
	}
	v.lastSeen = now
	return v.officer, true
}

func (s *sessions) end(r *http.Request) {
	if c, err := r.Cookie(sessionCookie); err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, s.engine.Sum([]byte(c.Value)))
	}
}

// cookie returns a cookie that only this host, over TLS, in same-site requests
// gets back. An empty value removes it.
func cookie(name, value string) *http.Cookie {
	c := &http.Cookie{Name: name, Value: value, Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode}
	if value == "" {
		c.MaxAge = -1
	}
	return c
}

func newSessions(cfg Config) *sessions {
	return &sessions{engine: cfg.Engines[0], clock: cfg.Clock, open: map[gm.Digest]*session{}}
}
