package channel_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tjfoc/gmsm/gmtls"

	"xinqiao/crypto/channel"
	"xinqiao/crypto/gm"
)

// The attacks are known to be attacks because they kill gmtls where nothing stands
// in front of it. That needs a process to kill: this test binary, started again.

const childEnv = "XINQIAO_CHANNEL_TEST_CHILD"

// child is what the parent tells its child.
type child struct {
	Role              string // one of the functions below
	Addr              string // to dial
	Root              []byte
	SignCert, EncCert []byte
	SignKey, EncKey   []byte
}

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(childEnv)
	if !ok {
		os.Exit(m.Run())
	}
	var c child
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	role := map[string]func(child) error{
		"naive listener": naiveListener, "guarded listener": guardedListener,
		"naive dialer": naiveDialer, "guarded dialer": guardedDialer,
	}[c.Role]
	if err := role(c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

func (c child) config() (channel.Config, error) {
	sign, err := gm.NewPrivateKey(c.SignKey)
	if err != nil {
		return channel.Config{}, err
	}
	enc, err := gm.NewPrivateKey(c.EncKey)
	return exchange{root: c.Root}.config(party{sign: sign, enc: enc, signCert: c.SignCert, encCert: c.EncCert}), err
}

// naiveListener is what a reader of gmtls's documentation would write, with the
// configuration as tight as it gets.
func naiveListener(c child) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	certs := []gmtls.Certificate{
		{Certificate: [][]byte{cfg.SignCert}, PrivateKey: cfg.Signer},
		{Certificate: [][]byte{cfg.EncCert}, PrivateKey: cfg.Decrypter},
	}
	l, err := gmtls.Listen("tcp", "127.0.0.1:0", &gmtls.Config{
		GMSupport: gmtls.NewGMSupport(), Certificates: certs, ClientAuth: gmtls.RequireAnyClientCert,
	})
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			io.Copy(conn, conn)
		}()
	}
}

func guardedListener(c child) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	e, err := channel.New(cfg)
	if err != nil {
		return err
	}
	l, err := e.Listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, l.Addr())
	echo(l)
	return nil
}

func naiveDialer(c child) error {
	raw, err := net.Dial("tcp", c.Addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := gmtls.Client(raw, &gmtls.Config{GMSupport: gmtls.NewGMSupport(), ServerName: "minzheng.xinqiao"})
	if conn.Handshake() == nil {
		return fmt.Errorf("the hostile server was accepted")
	}
	return nil
}

func guardedDialer(c child) error {
	cfg, err := c.config()
	if err != nil {
		return err
	}
	e, err := channel.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := e.Dial(ctx, c.Addr, "minzheng"); err == nil {
		return fmt.Errorf("the hostile server was accepted")
	}
	return nil
}

// process is a running child.
type process struct {
	addr           string // of a listener
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	end            func() *os.ProcessState // waits; from then on the buffers may be read
}

// start runs this test binary in a role. For a listener it waits for its address.
func start(t *testing.T, x exchange, p party, role, dial string) *process {
	t.Helper()
	text, err := json.Marshal(child{role, dial, x.root, p.signCert, p.encCert, p.sign.Scalar(), p.enc.Scalar()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	c := &process{cmd: exec.CommandContext(ctx, os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stdout = &c.stdout
	pipe, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(pipe)
	if strings.HasSuffix(role, "listener") {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%s: %v", role, err)
		}
		c.addr = strings.TrimSpace(line)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		io.Copy(&c.stderr, lines)
	}()
	c.end = sync.OnceValue(func() *os.ProcessState {
		<-drained
		c.cmd.Wait()
		return c.cmd.ProcessState
	})
	t.Cleanup(func() {
		cancel()
		c.end()
	})
	return c
}

// panicked waits for the child and reports whether it ended as a Go program does
// that panicked.
func (c *process) panicked() bool {
	return c.end().ExitCode() == 2 && strings.Contains(c.stderr.String(), "panic: ")
}

func TestNaiveListenerDiesGuardedLives(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	server, member := x.party(t, "minzheng"), x.party(t, "zhujian")
	guarded := start(t, x, server, "guarded listener", "")
	packets := packetsAgainstListener(t, member, server)
	for _, name := range []string{"first packet with suite 0xe011", "client version 0x0200", "key exchange of one byte"} {
		naive := start(t, x, server, "naive listener", "")
		send(t, naive.addr, packets[name])
		if !naive.panicked() {
			t.Errorf("%s: negative control: gmtls alone survived; the attack shows nothing\n%s", name, &naive.stderr)
		}
	}
	for _, p := range packets {
		send(t, guarded.addr, p)
	}
	ping(t, x.endpoint(t, member), guarded.addr, "minzheng")
	guarded.cmd.Process.Kill()
	guarded.end()
	if guarded.stdout.Len() > 0 {
		t.Errorf("standard output is not clean: %q", &guarded.stdout)
	}
}

func TestNaiveDialerDiesGuardedLives(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	p := x.party(t, "zhujian")
	plays := serverPlays(t, x.party(t, "minzheng"))
	naive := start(t, x, p, "naive dialer", play(t, plays["RSA certificates"]))
	if !naive.panicked() {
		t.Errorf("negative control: gmtls alone survived an RSA certificate\n%s", &naive.stderr)
	}
	for _, name := range []string{"RSA certificates", "no ServerKeyExchange", "forged ServerKeyExchange", "garbage"} {
		guarded := start(t, x, p, "guarded dialer", play(t, plays[name]))
		if state := guarded.end(); !state.Success() {
			t.Errorf("%s: %v\n%s", name, state, &guarded.stderr)
		}
		if guarded.stdout.Len() > 0 {
			t.Errorf("%s: standard output is not clean: %q", name, &guarded.stdout)
		}
	}
}
