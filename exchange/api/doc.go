// Package api is the HTTP face of a node for its department's own systems.
//
// It judges nothing: it authenticates the calling system, decodes strictly,
// calls the broker and encodes the outcome. openapi.yaml is the contract and
// ERRORS.md lists every code; tests hold both against this code.
package api
