// Package verify checks an evidence file from outside: with the file and a
// trust file in hand, without a network, and without any code that runs a node.
//
// An evidence file is a zip of ledger leaves with what proves them: the frames
// that their authors signed, the paths to one tree head, the departments'
// cosignatures of that head, their certificates, and, where a party chose to
// disclose them, the bodies. Its exporter signs a manifest of all of it. Every
// signature is checked by both engines, every file must have a place in the
// proof, and the archive itself must be the one canonical encoding of its files,
// so that no byte of it can be changed unseen. Export makes such a file.
package verify

import (
	"errors"
	"fmt"
)

// ErrNotZip reports input that is no zip file at all, as opposed to a damaged
// one.
var ErrNotZip = errors.New("not a zip file")

// Reason says why something is not proven. The list is closed, and the words
// are an interface: programs match them.
type Reason string

// The reasons.
const (
	ReasonTrust          Reason = "trust"              // the trust file is malformed
	ReasonContainer      Reason = "container"          // the zip is damaged or not the canonical encoding of its files
	ReasonManifest       Reason = "manifest"           // the manifest is missing or malformed
	ReasonFormat         Reason = "format"             // a format that this program does not know
	ReasonOrigin         Reason = "origin"             // another ledger than the trusted one
	ReasonMissingFile    Reason = "missing-file"       // the manifest or the proof needs a file that is not there
	ReasonUnknownFile    Reason = "unknown-file"       // a file has no place in the manifest or in the proof
	ReasonFileDigest     Reason = "file-digest"        // a file is not the one that the manifest lists
	ReasonManifestSig    Reason = "manifest-signature" // the exporter's signature does not hold
	ReasonCertificate    Reason = "certificate"        // a certificate does not chain to the root or was not valid at the time
	ReasonMember         Reason = "member"             // a signer is not the trusted department with its trusted certificate
	ReasonCheckpoint     Reason = "checkpoint"         // the tree head is malformed
	ReasonCosignature    Reason = "cosignature"        // a cosignature does not hold
	ReasonQuorum         Reason = "checkpoint-quorum"  // too few departments cosigned the tree head
	ReasonLeaf           Reason = "leaf"               // a leaf or its entry is malformed
	ReasonInclusion      Reason = "inclusion"          // the path does not lead from the leaf to the tree head
	ReasonFrame          Reason = "frame"              // a frame is malformed or does not belong to its leaf
	ReasonFrameRoot      Reason = "frame-root"         // the signed root does not cover the entry
	ReasonFrameSignature Reason = "frame-signature"    // the author's signature does not hold
	ReasonBody           Reason = "body-commitment"    // a disclosed body is not the one that the entry commits to
	ReasonReport         Reason = "report"             // the readable report does not say what the files say
	ReasonSplit          Reason = "engine-split"       // the two engines disagree about a signature
)

// A Failure is why Run does not call a file proven.
type Failure struct {
	Reason Reason
	File   string // the file of the archive concerned, if one is
	Err    error
}

// Error describes the failure.
func (f *Failure) Error() string {
	s := "not proven: " + string(f.Reason)
	if f.File != "" {
		s += ": " + f.File
	}
	if f.Err != nil {
		s += ": " + f.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (f *Failure) Unwrap() error { return f.Err }

func fail(r Reason, file, format string, args ...any) *Failure {
	return &Failure{Reason: r, File: file, Err: fmt.Errorf(format, args...)}
}
