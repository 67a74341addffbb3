package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"xinqiao/exchange/demo"
	"xinqiao/exchange/node"
)

// newDemoCommand returns `xinqiao demo`: six departments on this machine, one
// story, every line taken from the run.
func newDemoCommand() *cobra.Command {
	o := demo.Options{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run six departments here and play one story through them",
		Long: `Run six departments' nodes on this machine, on loopback, and play one story
through them: a couple applies for housing support, and housing asks civil
affairs for two fields of their marriage record.

The nodes stay up until Ctrl-C. With --once they stop after the story, and the
exit code says whether everything was as promised.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Lang != "zh" && o.Lang != "en" {
				return usageError(cmd, fmt.Errorf("--lang %q: want zh or en", o.Lang))
			}
			if o.Exe, err = os.Executable(); err != nil {
				return err
			}
			o.Out = cmd.OutOrStdout()
			o.Login = func(ctx context.Context, path, officer string) (string, error) {
				cfg, err := node.Load(path)
				if err != nil {
					return "", err
				}
				return loginLink(ctx, cfg, officer)
			}
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().BoolVar(&o.Once, "once", false, "stop after the story; exit 0 if all of it held, 1 if not")
	cmd.Flags().StringVar(&o.Dir, "dir", "", "keep everything in this new directory (default: a temporary one)")
	cmd.Flags().StringVar(&o.Engine, "engine", "auto", `crypto engine: "auto" or "tjfoc"`)
	cmd.Flags().StringVar(&o.Lang, "lang", "zh", "zh or en")
	return cmd
}
