package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"xinqiao/exchange/node"
)

// newLoginCommand returns `xinqiao login`: a one-time link to the ledger pages,
// for whoever administers the node.
func newLoginCommand() *cobra.Command {
	var path, officer string
	cmd := &cobra.Command{
		Use:     "login --config FILE --officer NAME",
		Short:   "Print a one-time link to a running node's ledger pages",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := node.Load(path)
			if err != nil {
				return err
			}
			link, err := loginLink(cmd.Context(), cfg, officer)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), link)
			fmt.Fprintln(cmd.ErrOrStderr(), "The link works once, within 10 minutes. Earlier links of this officer stop working.")
			return nil
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "the node's configuration")
	cmd.Flags().StringVar(&officer, "officer", "", "an officer named in the configuration")
	for _, name := range []string{"config", "officer"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return cmd
}

// loginLink asks the running node.
func loginLink(ctx context.Context, cfg node.Config, officer string) (string, error) {
	code, err := administer(ctx, cfg, "/login-codes?officer="+url.QueryEscape(officer), nil)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("https://%s/console/login?code=%s", cfg.Listen.Web, code), nil
}

// maxAdministered bounds what a node answers its administrator.
const maxAdministered = 4 << 20

// administer sends a command to the running node, over its administrator's socket,
// and returns what it answers.
func administer(ctx context.Context, cfg node.Config, path string, body []byte) ([]byte, error) {
	socket := filepath.Join(cfg.Data, node.AdminSocket)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://node"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, &hintError{fmt.Errorf("reach the node: %w", err), "is the node running, and may you open its data directory?"}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAdministered))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the node refuses: %s", strings.TrimSpace(string(b)))
	}
	return b, nil
}
