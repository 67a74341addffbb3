package channel_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
)

// TestReloadUnderLoad renews the certificates and keys of both ends again and
// again while others connect and send: no handshake fails, no open channel ends,
// and what is shown afterwards is the new.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		x := newExchange(t)
		server := newEndpoint(t, in(mode, x.config(x.party(t, "minzheng"))))
		client := newEndpoint(t, in(mode, x.config(x.party(t, "zhujian"))))
		l := listen(t, server)
		go echo(l)
		lasting, err := client.Dial(t.Context(), l.Addr().String(), "minzheng")
		if err != nil {
			t.Fatal(err)
		}
		defer lasting.Close()
		var stop atomic.Bool
		var load sync.WaitGroup
		for range 3 {
			load.Go(func() {
				for !stop.Load() {
					ping(t, client, l.Addr().String(), "minzheng")
				}
			})
		}
		var last party
		for range 8 {
			last = x.party(t, "minzheng")
			if err := errors.Join(server.Reload(last.credentials()), client.Reload(x.party(t, "zhujian").credentials())); err != nil {
				t.Fatal(err)
			}
			exchangeBytes(t, lasting, "still")
		}
		stop.Store(true)
		load.Wait()
		c, err := client.Dial(t.Context(), l.Addr().String(), "minzheng")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if c.Peer().Key != last.sign.Public() || server.Identity() != c.Peer() || lasting.Peer().Key == last.sign.Public() {
			t.Error("the new channel has the old key, or the old one the new")
		}
		if s := client.Stats(); s.OK < 3 || s.Open != 2 || s.Protocol+s.Identity+s.Refused+s.Failed+s.TimedOut > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestReloadRefuses: what New would not take changes nothing.
func TestReloadRefuses(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		x := newExchange(t)
		a, b := x.party(t, "minzheng"), x.party(t, "zhujian")
		e := newEndpoint(t, in(mode, x.config(a)))
		l := listen(t, e)
		go echo(l)
		with := func(change func(*channel.Credentials)) channel.Credentials {
			c := a.credentials()
			change(&c)
			return c
		}
		refused := map[string]channel.Credentials{
			"nothing":              {},
			"another department's": b.credentials(),
			"another's key":        with(func(c *channel.Credentials) { c.Signer = b.credentials().Signer }),
			"of another root":      newExchange(t).party(t, "minzheng").credentials(),
		}
		if mode == channel.TLS13 {
			refused["another's binding key"] = with(func(c *channel.Credentials) { c.Sign = b.credentials().Sign })
			refused["no binding key"] = with(func(c *channel.Credentials) { c.Sign = nil })
			refused["a binding key that fails"] = with(func(c *channel.Credentials) {
				c.Sign = func(string, []byte) (gm.Signature, error) { return gm.Signature{}, errors.New("the agent is away") }
			})
		}
		before := e.Identity()
		for name, c := range refused {
			if err := e.Reload(c); err == nil {
				t.Errorf("%s: taken", name)
			}
		}
		if e.Identity() != before {
			t.Errorf("the endpoint shows %+v", e.Identity())
		}
		ping(t, newEndpoint(t, in(mode, x.config(b))), l.Addr().String(), "minzheng")
	})
}

// TestWithdrawnDuringAHandshake: what was withdrawn between the handshake's
// question to Admit and its end is not let in, at either side.
func TestWithdrawnDuringAHandshake(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		x := newExchange(t)
		late := func() func(cert.Identity) error {
			var asked atomic.Int32
			return func(cert.Identity) error {
				if asked.Add(1) > 1 {
					return errors.New("withdrawn")
				}
				return nil
			}
		}
		a, b := in(mode, x.config(x.party(t, "minzheng"))), in(mode, x.config(x.party(t, "zhujian")))
		careless, careful := newEndpoint(t, a), newEndpoint(t, b)
		l := listen(t, careless)
		go echo(l)
		b.Admit = late()
		client := newEndpoint(t, b)
		if _, err := client.Dial(t.Context(), l.Addr().String(), "minzheng"); !errors.Is(err, channel.ErrNotAdmitted) {
			t.Errorf("dial: %v", err)
		}
		if s := client.Stats(); s.OK != 0 || s.NotAdmitted != 1 || s.Open != 0 {
			t.Errorf("the client: %+v", s)
		}
		a.Admit = late()
		server := newEndpoint(t, a)
		l = listen(t, server)
		go echo(l)
		if c, err := careful.Dial(t.Context(), l.Addr().String(), "minzheng"); err == nil { // to its end, all was well
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Errorf("the channel lives: %v", err)
			}
			c.Close()
		}
		eventually(t, "the server counts it", func() bool { return server.Stats().NotAdmitted == 1 })
		if s := server.Stats(); s.OK != 0 || s.Open != 0 {
			t.Errorf("the server: %+v", s)
		}
	})
}

// TestRecheck cuts the channels to a department that is not admitted any more, at
// both ends, and to one whose certificate has ended. Others live on.
func TestRecheck(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		x := newExchange(t)
		var gone atomic.Value
		var clock atomic.Int64
		clock.Store(now.Unix())
		gone.Store("")
		cfg := in(mode, x.config(x.party(t, "minzheng")))
		cfg.Clock = func() time.Time { return time.Unix(clock.Load(), 0) }
		cfg.Admit = func(id cert.Identity) error {
			if id.Dept == gone.Load() {
				return errors.New("withdrawn")
			}
			return nil
		}
		server := newEndpoint(t, cfg)
		l := listen(t, server)
		go echo(l)
		dial := func(dept string) *channel.Conn {
			c, err := newEndpoint(t, in(mode, x.config(x.party(t, dept)))).Dial(t.Context(), l.Addr().String(), "minzheng")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			exchangeBytes(t, c, "hello")
			return c
		}
		stays, goes := dial("zhujian"), dial("gongan")
		if cut := server.Recheck(); cut != 0 {
			t.Errorf("%d channels are cut without a reason", cut)
		}
		gone.Store("gongan")
		if cut := server.Recheck(); cut != 1 {
			t.Errorf("%d channels are cut, want 1", cut)
		}
		goes.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := goes.Read(make([]byte, 1)); err == nil {
			t.Error("the withdrawn department still reads")
		}
		exchangeBytes(t, stays, "still here")
		clock.Add(int64(48 * time.Hour / time.Second))
		if cut := server.Recheck(); cut < 1 {
			t.Error("a channel outlives its certificate")
		}
		eventually(t, "no channel is kept", func() bool { return server.Stats().Open == 0 })
	})
}
