package demo

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"xinqiao/exchange"
	"xinqiao/exchange/client"
)

// Cluster is a network's nodes as processes: each is `xinqiao serve` with its
// own keys and directory.
type Cluster struct {
	*Network
	exe  string
	http *http.Client
	sdk  map[exchange.Dept]*client.Client

	mu    sync.Mutex
	procs map[exchange.Dept]*process // mu protects procs
}

type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed once the process has ended
}

// NewCluster prepares to run the network's nodes with the xinqiao binary exe.
func NewCluster(n *Network, exe string) (*Cluster, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(n.WebCA) {
		return nil, errors.New("the web CA certificate does not parse")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pool}, MaxIdleConnsPerHost: 4}
	c := &Cluster{Network: n, exe: exe, procs: map[exchange.Dept]*process{}, sdk: map[exchange.Dept]*client.Client{},
		http: &http.Client{Transport: transport, Timeout: 5 * time.Second}}
	for _, s := range n.Sites {
		c.sdk[s.Dept] = client.New(s.URL, pool, s.Token)
	}
	return c, nil
}

// Start starts a department's node with extra environment variables. Its log
// goes to node.log in its directory.
func (c *Cluster) Start(dept exchange.Dept, env ...string) error {
	site := c.Site(dept)
	log, err := os.OpenFile(filepath.Join(filepath.Dir(site.Config), "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(c.exe, "serve", "--config", site.Config)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	// Children must not take the terminal's Ctrl-C: the demo stops them in order.
	// And they must not outlive it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("start the node of %s: %w", dept, err), log.Close())
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	c.mu.Lock()
	c.procs[dept] = p
	c.mu.Unlock()
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		_ = log.Close()
		close(p.done)
	}()
	return nil
}

// Signal sends a signal to a department's node, by its own process id.
func (c *Cluster) Signal(dept exchange.Dept, s syscall.Signal) error {
	c.mu.Lock()
	p := c.procs[dept]
	c.mu.Unlock()
	if p == nil {
		return fmt.Errorf("%s does not run", dept)
	}
	return p.cmd.Process.Signal(s)
}

// Wait blocks until the department's process has ended.
func (c *Cluster) Wait(ctx context.Context, dept exchange.Dept) error {
	c.mu.Lock()
	p := c.procs[dept]
	c.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the node of %s to end: %w", dept, ctx.Err())
	}
}

// Kill sends SIGKILL and waits for the end.
func (c *Cluster) Kill(ctx context.Context, dept exchange.Dept) error {
	if err := c.Signal(dept, syscall.SIGKILL); err != nil {
		return err
	}
	return c.Wait(ctx, dept)
}

// Running reports whether the department's process runs.
func (c *Cluster) Running(dept exchange.Dept) bool {
	c.mu.Lock()
	p := c.procs[dept]
	c.mu.Unlock()
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop ends every process: asked first, killed after a while.
func (c *Cluster) Stop() {
	var wg sync.WaitGroup
	for _, s := range c.Sites {
		if !c.Running(s.Dept) {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = c.Signal(s.Dept, syscall.SIGTERM)
			_ = c.Signal(s.Dept, syscall.SIGCONT)
			if c.Wait(ctx, s.Dept) != nil {
				_ = c.Signal(s.Dept, syscall.SIGKILL)
				_ = c.Wait(context.Background(), s.Dept)
			}
		})
	}
	wg.Wait()
	c.http.CloseIdleConnections()
}

// WaitReady blocks until the departments' nodes are ready.
func (c *Cluster) WaitReady(ctx context.Context, depts ...exchange.Dept) error {
	for _, dept := range depts {
		for {
			status, body, err := c.Get(ctx, dept, "/readyz")
			if err == nil && status == http.StatusOK {
				break
			}
			if !c.Running(dept) {
				return fmt.Errorf("the node of %s has ended: %s", dept, c.lastLog(dept))
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s is not ready: %s: %s", dept, strings.TrimSpace(body), c.lastLog(dept))
			case <-time.After(30 * time.Millisecond):
			}
		}
	}
	return nil
}

func (c *Cluster) lastLog(dept exchange.Dept) string {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(c.Site(dept).Config), "node.log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "\n")
}

// Get reads a path of a department's HTTPS listener without credentials.
func (c *Cluster) Get(ctx context.Context, dept exchange.Dept, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Site(dept).URL+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, string(b), err
}

// Metric reads one figure from a department's metrics: name with its labels, as
// it is printed.
func (c *Cluster) Metric(ctx context.Context, dept exchange.Dept, name string) (string, error) {
	_, body, err := c.Get(ctx, dept, "/metrics")
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("%s has no metric %s", dept, name)
}

// Leader asks the nodes which of them leads.
func (c *Cluster) Leader(ctx context.Context) (exchange.Dept, error) {
	for {
		for _, s := range c.Sites {
			if !c.Running(s.Dept) {
				continue
			}
			if v, err := c.Metric(ctx, s.Dept, `xinqiao_raft_state{state="leader"}`); err == nil && v == "1" {
				return s.Dept, nil
			}
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("find the leader: %w", ctx.Err())
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// Client returns the SDK for a department's node, as its system "counter".
func (c *Cluster) Client(dept exchange.Dept) *client.Client { return c.sdk[dept] }
