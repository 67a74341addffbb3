package channel_test

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"xinqiao/crypto/channel"
)

// TestSlowPeersMakeRoom fills every place with peers that say a little now and
// then: a byte, a record of one byte, a byte of the binding. They are silent for
// no long time, and make room all the same.
func TestSlowPeersMakeRoom(t *testing.T) {
	t.Parallel()
	bytewise := func(b []byte) (parts [][]byte) {
		for _, one := range b {
			parts = append(parts, []byte{one})
		}
		return parts
	}
	recordwise := func(version uint16, b []byte) (parts [][]byte) {
		for _, one := range b {
			parts = append(parts, versioned(22, version, []byte{one}))
		}
		return parts
	}
	hello := message(1, make([]byte, 120))
	plain := func(t testing.TB, addr string) net.Conn {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, tc := range map[string]struct {
		mode  channel.Mode
		dial  func(t testing.TB, addr string) net.Conn
		parts [][]byte
	}{
		"GM TLS, bytes":    {channel.GMTLS, plain, bytewise(record(22, hello))},
		"GM TLS, records":  {channel.GMTLS, plain, recordwise(0x0101, hello)},
		"TLS 1.3, bytes":   {channel.TLS13, plain, bytewise(versioned(22, 0x0301, hello))},
		"TLS 1.3, records": {channel.TLS13, plain, recordwise(0x0301, hello)},
		"TLS 1.3, binding": {channel.TLS13, func(t testing.TB, addr string) net.Conn { return dialBare(t, addr) },
			bytewise(append([]byte{0, 0, 16, 0}, make([]byte, 120)...))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newExchange(t)
			cfg := in(tc.mode, x.config(x.party(t, "minzheng")))
			cfg.MaxHandshakes, cfg.HandshakeTimeout = 3, 10*time.Second
			server := newEndpoint(t, cfg)
			l := listen(t, server)
			go echo(l)
			var slow sync.WaitGroup
			defer slow.Wait()
			for range cfg.MaxHandshakes {
				c := tc.dial(t, l.Addr().String())
				slow.Go(func() {
					defer c.Close()
					for _, part := range tc.parts { // about as long as the time for a handshake
						if _, err := c.Write(part); err != nil {
							return
						}
						time.Sleep(80 * time.Millisecond)
					}
				})
			}
			cfg = in(tc.mode, x.config(x.party(t, "zhujian")))
			cfg.HandshakeTimeout = time.Minute
			ping(t, newEndpoint(t, cfg), l.Addr().String(), "minzheng")
			if s := server.Stats(); s.Shed == 0 {
				t.Errorf("the slow ones kept their places until their time was over: %+v", s)
			}
			l.Close()
		})
	}
}

// TestManyChannelsOfOnePeer: a department that opens channels without end fills
// its own share and nobody else's.
func TestManyChannelsOfOnePeer(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, mode channel.Mode) {
		x := newExchange(t)
		cfg := in(mode, x.config(x.party(t, "minzheng")))
		cfg.MaxPerPeer = 3
		server := newEndpoint(t, cfg)
		l := listen(t, server)
		go echo(l)
		greedy := newEndpoint(t, in(mode, x.config(x.party(t, "zhujian"))))
		var open []*channel.Conn
		for range cfg.MaxPerPeer {
			c, err := greedy.Dial(t.Context(), l.Addr().String(), "minzheng")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			exchangeBytes(t, c, "hello") // accepted and counted
			open = append(open, c)
		}
		if _, err := greedy.Dial(t.Context(), l.Addr().String(), "minzheng"); !errors.Is(err, channel.ErrRefused) {
			t.Errorf("one too many: %v", err)
		}
		if s := server.Stats(); s.TooMany != 1 || s.Open != 3 {
			t.Errorf("%+v", s)
		}
		ping(t, newEndpoint(t, in(mode, x.config(x.party(t, "gongan")))), l.Addr().String(), "minzheng")
		open[0].Close()
		eventually(t, "the server forgets the closed ones", func() bool { return server.Stats().Open == 2 })
		ping(t, greedy, l.Addr().String(), "minzheng")
	})
}
