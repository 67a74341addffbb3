package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/exchange"
	"xinqiao/exchange/client"
)

// nodeFlags say which node to ask, and as whom.
type nodeFlags struct{ url, ca, token, output string }

func (f *nodeFlags) add(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.url, "node", os.Getenv("XINQIAO_NODE"), "the node's address, https://host:port (or XINQIAO_NODE)")
	flags.StringVar(&f.ca, "ca", os.Getenv("XINQIAO_CA"), "the web CA's certificate, PEM (or XINQIAO_CA)")
	flags.StringVar(&f.token, "token-file", os.Getenv("XINQIAO_TOKEN_FILE"), "file with the calling system's token (or XINQIAO_TOKEN_FILE)")
	flags.StringVarP(&f.output, "output", "o", "table", "table or json")
}

func (f *nodeFlags) client(cmd *cobra.Command) (*client.Client, error) {
	for name, v := range map[string]string{"node": f.url, "ca": f.ca, "token-file": f.token} {
		if v == "" {
			return nil, usageError(cmd, fmt.Errorf("--%s is missing", name))
		}
	}
	if f.output != "table" && f.output != "json" {
		return nil, usageError(cmd, fmt.Errorf("--output %q: want table or json", f.output))
	}
	ca, err := os.ReadFile(f.ca)
	if err != nil {
		return nil, fmt.Errorf("read the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errors.New("the CA file holds no certificate in PEM form")
	}
	token, err := os.ReadFile(f.token)
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	return client.New(f.url, pool, strings.TrimSpace(string(token))), nil
}

// answerWithin bounds how long a person waits for a node that does not answer;
// until then the call is tried again.
const answerWithin = 15 * time.Second

// newLedgerCommand returns `xinqiao ledger`: the access ledger for people.
func newLedgerCommand() *cobra.Command {
	f := &nodeFlags{}
	cmd := &cobra.Command{
		Use:   "ledger",
		Short: "Search the access ledger, look at an entry, export evidence",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(cmd)
	cmd.AddCommand(newLedgerSearch(f), newLedgerShow(f), newLedgerExport(f))
	return cmd
}

// searchFlags are the conditions of a search as they are typed.
type searchFlags struct {
	dept, outcome, kind, from, to, item, operator, subjectFile, cursor string
	limit                                                              int
}

func newLedgerSearch(f *nodeFlags) *cobra.Command {
	s := &searchFlags{}
	cmd := &cobra.Command{
		Use:   "search",
		Short: "List entries, newest first",
		Long: `List entries, newest first. Item, operator and subject match only entries whose
detail this node may open. A subject's identifier is read from a file, so that
it stands in no command line or shell history; the search itself is recorded.`,
		Example: "  xinqiao ledger search --outcome denied --from 2026-11-23T00:00:00+08:00",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			q, err := s.query()
			if err != nil {
				return usageError(cmd, err)
			}
			c, err := f.client(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWithin)
			defer cancel()
			rows, next, err := c.Search(ctx, q)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]any{"entries": rows, "next": next})
			}
			printRows(cmd.OutOrStdout(), rows)
			if next != "" {
				fmt.Fprintf(cmd.ErrOrStderr(), "More: add --cursor %s\n", next)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.dept, "department", "", "as author, holder or requester")
	flags.StringVar(&s.outcome, "outcome", "", "allowed, no_record or denied")
	flags.StringVar(&s.kind, "kind", "", "access, ack, view, authority, authority-withdrawn, …")
	flags.StringVar(&s.from, "from", "", "not before this time, RFC 3339")
	flags.StringVar(&s.to, "to", "", "before this time, RFC 3339")
	flags.StringVar(&s.item, "item", "", "class/name")
	flags.StringVar(&s.operator, "operator", "", "who handled the case")
	flags.StringVar(&s.subjectFile, "subject-file", "", "file with the subject's identifier, - for standard input")
	flags.StringVar(&s.cursor, "cursor", "", "where the last page ended")
	flags.IntVar(&s.limit, "limit", 50, "entries, at most 200")
	return cmd
}

func (s *searchFlags) query() (exchange.LedgerQuery, error) {
	q := exchange.LedgerQuery{Dept: exchange.Dept(s.dept), Kind: s.kind, Item: exchange.Item(s.item),
		Operator: exchange.Operator(s.operator), Page: exchange.Page{Cursor: s.cursor, Limit: s.limit}}
	var err error
	if s.outcome != "" {
		if q.Outcome, err = exchange.ParseOutcome(s.outcome); err != nil {
			return q, err
		}
	}
	for text, at := range map[string]*time.Time{s.from: &q.From, s.to: &q.To} {
		if text == "" {
			continue
		}
		if *at, err = time.Parse(time.RFC3339, text); err != nil {
			return q, err
		}
	}
	if s.subjectFile != "" {
		var b []byte
		if s.subjectFile == "-" {
			b, err = io.ReadAll(io.LimitReader(os.Stdin, 256))
		} else {
			b, err = os.ReadFile(s.subjectFile)
		}
		q.Subject = strings.TrimSpace(string(b))
	}
	return q, err
}

func printRows(w io.Writer, rows []exchange.LedgerRow) {
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	fmt.Fprintln(t, "INDEX\tTIME\tKIND\tRESULT\tHOLDER\tREQUESTER\tCLASS/ITEM\tOUTCOME\tOPERATOR\tCOSIGNED")
	for _, r := range rows {
		what, outcome := r.Class, ""
		if r.Open {
			what = string(r.Item)
		}
		if r.Outcome != exchange.Undecided {
			outcome = r.Outcome.String()
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%v\n", r.Index, r.Time.Local().Format("2006-01-02 15:04:05 -0700"), r.Kind, r.Result,
			orDash(string(r.Holder)), orDash(string(r.Requester)), orDash(what), orDash(outcome), orDash(string(r.Operator)), r.Cosigned)
	}
	_ = t.Flush() // to a buffer or a terminal; a broken pipe ends the process by itself
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func newLedgerShow(f *nodeFlags) *cobra.Command {
	return &cobra.Command{
		Use:     "show INDEX",
		Short:   "Show one entry and what proves it",
		Example: "  xinqiao ledger show 42",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := strconv.ParseUint(args[0], 10, 64)
			if err != nil {
				return usageError(cmd, fmt.Errorf("INDEX %q is not a position in the ledger", args[0]))
			}
			c, err := f.client(cmd)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWithin)
			defer cancel()
			row, err := c.Row(ctx, at)
			if err != nil {
				return err
			}
			proof, err := c.Proof(ctx, at)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return printJSON(cmd.OutOrStdout(), map[string]any{"entry": row, "proof": proof})
			}
			printEntry(cmd.OutOrStdout(), row, proof)
			return nil
		},
	}
}

func printEntry(w io.Writer, r exchange.LedgerRow, p exchange.LedgerProof) {
	t := tabwriter.NewWriter(w, 2, 4, 2, ' ', 0)
	line := func(name string, value any) { fmt.Fprintf(t, "%s\t%v\n", name, value) }
	line("index", r.Index)
	line("entry", r.Entry)
	line("time", r.Time.Local().Format(time.RFC3339))
	line("kind", r.Kind)
	line("result", r.Result)
	line("author", r.Author)
	if r.Outcome != exchange.Undecided {
		line("holder", r.Holder)
		line("requester", r.Requester)
		line("class", r.Class)
		line("outcome", r.Outcome)
	}
	if r.Open {
		line("item", r.Item)
		for _, v := range r.Views {
			line("field", strings.TrimSuffix(fmt.Sprintf("%s %s %s", v.Field, v.Mode, v.Predicate), " "))
		}
		line("purpose", r.Purpose)
		line("case", r.Case)
		line("operator", r.Operator)
		for _, reason := range r.Reasons {
			line("reason", reason.Code)
		}
	} else if r.Kind == "access" {
		line("detail", "this node is no party and cannot open it")
	}
	line("leaf", r.Leaf)
	line("proof", fmt.Sprintf("%d hashes to the cosigned tree head of size %d", len(p.Path), p.Size))
	_ = t.Flush()
}

func newLedgerExport(f *nodeFlags) *cobra.Command {
	var entries []uint
	var out string
	cmd := &cobra.Command{
		Use:     "export --entry INDEX… --out FILE",
		Short:   "Write an evidence file that xqverify checks anywhere; the export is recorded",
		Example: "  xinqiao ledger export --entry 42 --entry 43 --out evidence.zip",
		Args:    usageArgs(cobra.NoArgs),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.client(cmd)
			if err != nil {
				return err
			}
			indices := make([]uint64, len(entries))
			for i, e := range entries {
				indices[i] = uint64(e)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), answerWithin)
			defer cancel()
			file, err := c.Evidence(ctx, indices...)
			if err != nil {
				return err
			}
			if err := os.WriteFile(out, file, 0o600); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "Wrote %s. Check it: xqverify %s --trust TRUST\n", out, out)
			return nil
		},
	}
	cmd.Flags().UintSliceVar(&entries, "entry", nil, "position of an entry; may be given several times")
	cmd.Flags().StringVar(&out, "out", "", "the file to write")
	for _, name := range []string{"entry", "out"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flags are defined above
		}
	}
	return cmd
}
