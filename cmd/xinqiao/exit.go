package main

import (
	"errors"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitFailed     = 1
	exitUsage      = 2
	exitUnverified = 3
	exitDenied     = 4
)

// exitError carries the exit code of a failed command.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }

func (e exitError) Unwrap() error { return e.err }

// exitCode returns what main exits with for the error of a command.
func exitCode(err error) int {
	var e exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.code
	}
	return exitFailed
}

// usageArgs makes a violation of check exit with exitUsage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError(cmd, err)
		}
		return nil
	}
}

// usageFlags is a PreRunE that makes a missing required flag exit with
// exitUsage; cobra's own check comes after it.
func usageFlags(cmd *cobra.Command, _ []string) error {
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return usageError(cmd, err)
	}
	return nil
}

// usageError is also cobra's FlagErrorFunc.
func usageError(cmd *cobra.Command, err error) error {
	return exitError{exitUsage, &hintError{err, "see " + cmd.CommandPath() + " --help"}}
}

// hintError adds what to do next.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() + "\n" + e.hint }

func (e *hintError) Unwrap() error { return e.err }
