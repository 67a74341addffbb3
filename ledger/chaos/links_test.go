package chaos

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// weather is what becomes of bytes in one direction of a link.
type weather struct {
	Cut   bool
	Delay time.Duration
	Loss  float64 // of connections, for each piece that passes: TCP itself repeats packets, so what shows is a broken connection
}

// link is the only way from one node to another: a TCP proxy whose two
// directions have a weather each. A cut direction swallows nothing; its bytes
// wait, as those of an unreachable TCP peer do, until the link is mended or the
// ends give up.
type link struct {
	l    net.Listener
	to   string
	done chan struct{}
	wg   sync.WaitGroup

	mu    sync.Mutex
	there weather // towards to
	back  weather
	conns map[net.Conn]bool
}

func newLink(addr, to string) (*link, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	k := &link{l: l, to: to, done: make(chan struct{}), conns: map[net.Conn]bool{}}
	k.wg.Go(k.accept)
	return k, nil
}

func (k *link) set(there, back weather) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.there, k.back = there, back
}

func (k *link) weather(back bool) weather {
	k.mu.Lock()
	defer k.mu.Unlock()
	if back {
		return k.back
	}
	return k.there
}

func (k *link) close() {
	close(k.done)
	k.l.Close()
	k.mu.Lock()
	for c := range k.conns {
		c.Close()
	}
	k.mu.Unlock()
	k.wg.Wait()
}

func (k *link) accept() {
	for {
		c, err := k.l.Accept()
		if err != nil {
			return
		}
		k.wg.Go(func() { k.serve(c) })
	}
}

func (k *link) serve(near net.Conn) {
	k.hold(near, true)
	defer k.hold(near, false)
	if !k.pass(false) {
		return
	}
	far, err := net.DialTimeout("tcp", k.to, 2*time.Second)
	if err != nil {
		return
	}
	k.hold(far, true)
	defer k.hold(far, false)
	var both sync.WaitGroup
	both.Go(func() { k.copy(far, near, false) })
	both.Go(func() { k.copy(near, far, true) })
	both.Wait()
}

func (k *link) hold(c net.Conn, on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if on {
		k.conns[c] = true
		return
	}
	delete(k.conns, c)
	c.Close()
}

// pass waits while a direction is cut and reports whether the link still lives.
func (k *link) pass(back bool) bool {
	for k.weather(back).Cut {
		if !k.sleep(10 * time.Millisecond) {
			return false
		}
	}
	return true
}

func (k *link) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-k.done:
		return false
	case <-t.C:
		return true
	}
}

// piece is what was read at once and when it may arrive.
type piece struct {
	b  []byte
	at time.Time
}

// copy carries bytes one way. Reading goes on while pieces are delayed, so a delay
// is latency and takes no throughput.
func (k *link) copy(to io.WriteCloser, from io.ReadCloser, back bool) {
	defer to.Close()
	defer from.Close()
	pieces := make(chan piece, 1024)
	quit := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		defer from.Close()
		defer close(quit)
		for p := range pieces {
			if w := time.Until(p.at); w > 0 && !k.sleep(w) {
				return
			}
			if !k.pass(back) || rand.Float64() < k.weather(back).Loss {
				return
			}
			if _, err := to.Write(p.b); err != nil {
				return
			}
		}
	})
	buf := make([]byte, 32<<10)
read:
	for {
		n, err := from.Read(buf)
		if n > 0 {
			select {
			case pieces <- piece{append([]byte(nil), buf[:n]...), time.Now().Add(k.weather(back).Delay)}:
			case <-quit:
				break read
			}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	writer.Wait()
}
