package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"xinqiao/crypto/cert"
	"xinqiao/crypto/gm"
	"xinqiao/crypto/keyring"
	"xinqiao/exchange"
	"xinqiao/exchange/node"
	"xinqiao/ledger"
)

// orderFlags are what every order of the authority needs.
type orderFlags struct {
	standing, keys, passphrase, out string
}

func (f *orderFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.standing, "standing", "", "how the ledger stands (xinqiao member list -o json)")
	flags.StringVar(&f.keys, "keyring", "", "the authority's keyring")
	flags.StringVar(&f.passphrase, "passphrase-file", "", "opens the keyring (or XINQIAO_PASSPHRASE)")
	flags.StringVar(&f.out, "out", "", "the order is written here")
	mustRequire(cmd, "standing", "keyring", "out")
}

// department returns the standing and one department's part of it.
func (f *orderFlags) department(name string) (node.Standing, node.StandingMember, error) {
	b, err := os.ReadFile(f.standing)
	if err != nil {
		return node.Standing{}, node.StandingMember{}, err
	}
	s, err := node.ReadStanding(b)
	dept := exchange.Dept(name)
	if err == nil && (!dept.Valid() || dept == exchange.Authority) {
		err = fmt.Errorf("%q is not the name of a department", name)
	}
	return s, s.Member(dept), err
}

// sign writes the order.
func (f *orderFlags) sign(cmd *cobra.Command, s node.Standing, changes ...ledger.FactChange) error {
	secret, err := (node.Config{PassphraseFile: f.passphrase}).Passphrase()
	if err != nil {
		return err
	}
	engine := gm.Emmansun()
	authority, err := keyring.Open(f.keys, secret, engine)
	if err != nil {
		return fmt.Errorf("open the authority's keyring: %w", err)
	}
	order, err := s.Order(engine, authority, time.Now(), changes...)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.out, order, 0o600); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Wrote %s. Next, at any node, before the authority signs anything else: xinqiao member submit --config node.yaml %s\n", f.out, f.out)
	return nil
}

// memberFlags are a membership as it is typed; what is left out stays as it is.
type memberFlags struct {
	orderFlags
	ledger.Member
	signCert, encCert string
}

func newMemberSet() *cobra.Command {
	f := &memberFlags{}
	cmd := &cobra.Command{
		Use:   "set DEPARTMENT --standing FILE --keyring FILE --out FILE",
		Short: "Sign a department's membership: admit it, move it, give or take its vote",
		Long: `Sign, as the sharing authority, a department's membership: admit it, follow it to
other addresses, give it a vote or take it, or put new certificates in the place of
its old ones. What is not said stays as it is in the standing; all of it is shown, and
signed.

A member that is given a vote votes once its node has cosigned the newest checkpoint.
To replace a voter, give the new one its vote first, wait until member list says
that it votes, then take the old one's.`,
		Example: `  xinqiao member set renshe --vote --standing standing.json --keyring authority/keys.xq --out order.xq
  xinqiao member set renshe --name 人社局 --name-en "Human Resources" --uscc 11330100MB1234567X --raft 10.1.0.7:17403 --peer 10.1.0.7:17404 \
    --sign-cert renshe/sign.pem --enc-cert renshe/enc.pem --standing standing.json --keyring authority/keys.xq --out order.xq`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		PreRunE: usageFlags,
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0]) },
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.Name, "name", "", "the department's name")
	flags.StringVar(&f.NameEN, "name-en", "", "the same in English")
	flags.StringVar(&f.USCC, "uscc", "", "unified social credit code")
	flags.StringVar(&f.Raft, "raft", "", "host:port where the others reach its Raft")
	flags.StringVar(&f.Peer, "peer", "", "host:port where the others reach its node")
	flags.BoolVar(&f.Voter, "vote", false, "its node votes; --vote=false takes the vote")
	flags.StringVar(&f.signCert, "sign-cert", "", "its signing certificate, PEM; with --enc-cert, in place of those on the ledger")
	flags.StringVar(&f.encCert, "enc-cert", "", "its encryption certificate, PEM")
	return cmd
}

func (f *memberFlags) run(cmd *cobra.Command, name string) error {
	s, was, err := f.department(name)
	if err != nil {
		return err
	}
	next := was.Member
	changed := cmd.Flags().Changed
	for flag, put := range map[string]func(){
		"name": func() { next.Name = f.Name }, "name-en": func() { next.NameEN = f.NameEN }, "uscc": func() { next.USCC = f.USCC },
		"raft": func() { next.Raft = f.Raft }, "peer": func() { next.Peer = f.Peer }, "vote": func() { next.Voter = f.Voter },
	} {
		if changed(flag) {
			put()
		}
	}
	var changes []ledger.FactChange
	if next != was.Member || !was.Active {
		changes = append(changes, was.Become(next))
	}
	certs, err := f.certificates(cmd, was)
	if err != nil {
		return err
	}
	if certs != nil {
		changes = append(changes, *certs)
	}
	switch {
	case next.Name == "" || next.NameEN == "" || next.USCC == "" || next.Raft == "" || next.Peer == "":
		return usageError(cmd, fmt.Errorf("%s is no member yet: say its --name, --name-en, --uscc, --raft and --peer", name))
	case !was.CertActive && certs == nil:
		return usageError(cmd, fmt.Errorf("the ledger has no certificates of %s in force: say its --sign-cert and --enc-cert", name))
	case len(changes) == 0:
		return &hintError{fmt.Errorf("that is how %s stands already", name), "see xinqiao member list"}
	}
	if err := votersAfter(cmd, s, was.Department, next.Voter); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Signing for %s: %s (%s), %s, raft %s, peer %s, vote %v\n", name, next.Name, next.NameEN, next.USCC, next.Raft, next.Peer, next.Voter)
	return f.sign(cmd, s, changes...)
}

// certificates returns the change that sets the certificates that were named. It
// leaves the earlier ones out: a department renews its own by xinqiao renew.
func (f *memberFlags) certificates(cmd *cobra.Command, was node.StandingMember) (*ledger.FactChange, error) {
	if f.signCert == "" && f.encCert == "" {
		return nil, nil
	}
	if f.signCert == "" || f.encCert == "" {
		return nil, usageError(cmd, errors.New("--sign-cert and --enc-cert go together"))
	}
	sign, err := readCertificate(f.signCert)
	if err != nil {
		return nil, err
	}
	enc, err := readCertificate(f.encCert)
	if err != nil {
		return nil, err
	}
	for der, usage := range map[string]cert.Usage{string(sign): cert.Signing, string(enc): cert.Encryption} {
		id, err := cert.Inspect([]byte(der))
		if err != nil {
			return nil, err
		}
		if id.Dept != string(was.Department) || id.Usage != usage || time.Now().After(id.NotAfter) {
			return nil, &hintError{fmt.Errorf("the %s certificate is %s's %s certificate until %s", usage, id.Dept, id.Usage, localTime(id.NotAfter)),
				"name a valid pair of this department"}
		}
	}
	change := was.Certify(ledger.Certs{Sign: sign, Enc: enc})
	return &change, nil
}

// votersAfter refuses a change that leaves too few or too many voters, and warns
// of a number that gains nothing.
func votersAfter(cmd *cobra.Command, s node.Standing, dept exchange.Dept, votes bool) error {
	n := 0
	for _, m := range s.Members {
		if m.Active && m.Voter && m.Department != dept {
			n++
		}
	}
	if votes {
		n++
	}
	switch {
	case n < 3 || n > 7:
		return &hintError{fmt.Errorf("%d members would vote: want 3, 5 or 7", n), "to replace a voter, give the new one its vote first"}
	case n%2 == 0:
		fmt.Fprintf(cmd.ErrOrStderr(), "%d members will vote: no more of them may fail than of %d. That is right on the way to another number, not for long.\n", n, n-1)
	}
	return nil
}

func newMemberWithdraw() *cobra.Command {
	f := &orderFlags{}
	var certs bool
	cmd := &cobra.Command{
		Use:   "withdraw DEPARTMENT --standing FILE --keyring FILE --out FILE",
		Short: "Sign that a department is no member any more, or that its certificates are withdrawn",
		Long: `Sign, as the sharing authority, that a department is no member any more: no node
answers it, no access that rests on it is recorded, and its node is taken out of Raft.
With --certificates its membership stays and its certificates are withdrawn, as when
its key was stolen: it can neither ask nor answer until the authority sets others
(xinqiao member set --sign-cert … --enc-cert …).`,
		Example: "  xinqiao member withdraw renshe --certificates --standing standing.json --keyring authority/keys.xq --out order.xq",
		Args:    usageArgs(cobra.ExactArgs(1)),
		PreRunE: usageFlags,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, was, err := f.department(args[0])
			if err != nil {
				return err
			}
			t, active := ledger.FactMember, was.Active
			if certs {
				t, active = ledger.FactCert, was.CertActive
			} else if err := votersAfter(cmd, s, was.Department, false); err != nil {
				return err
			}
			if !active {
				return &hintError{fmt.Errorf("%s has no %s in force", args[0], t), "see xinqiao member list"}
			}
			return f.sign(cmd, s, ledger.FactChange{Type: t, Key: args[0], Action: ledger.Withdraw})
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&certs, "certificates", false, "withdraw its certificates, not its membership")
	return cmd
}
