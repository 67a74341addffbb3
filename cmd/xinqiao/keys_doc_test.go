package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestKeysDocument reads every command of deploy/KEYS.md as the program would:
// each verb exists, each flag is known, and none that is required is missing. What
// the commands do together is TestFoundByHand's.
func TestKeysDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../deploy/KEYS.md")
	if err != nil {
		t.Fatal(err)
	}
	commands, inside := 0, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "```") {
			inside = line == "```sh"
			continue
		}
		if !inside {
			continue
		}
		commands++
		words := shellWords(line)
		if words[0] != "xinqiao" {
			t.Errorf("not a command of ours: %s", line)
			continue
		}
		cmd, rest, err := newRoot().Find(words[1:])
		if err == nil && !cmd.Runnable() || cmd.HasSubCommands() {
			t.Errorf("no such command: %s", line)
			continue
		}
		if err == nil {
			err = cmd.ParseFlags(rest)
		}
		if err == nil {
			err = cmd.ValidateRequiredFlags()
		}
		if err == nil {
			err = validateArgs(cmd)
		}
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if commands < 15 {
		t.Errorf("only %d commands are found", commands)
	}
}

func validateArgs(cmd *cobra.Command) error {
	if cmd.Args == nil {
		return nil
	}
	return cmd.Args(cmd, cmd.Flags().Args())
}

// shellWords splits a line at spaces outside single quotes.
func shellWords(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
