package gm

// A Verdict is what two engines say about one signature. The zero value is no
// verdict and accepts nothing.
type Verdict uint8

// The verdicts of VerifyBoth. On Split the engines disagree: the signature is
// refused, the object is disputed, and whoever asked counts it and raises an
// alarm, because it means a crafted signature or a broken engine.
const (
	NoVerdict Verdict = iota
	AgreeValid
	AgreeInvalid
	Split
)

// Valid reports whether both engines accept.
func (v Verdict) Valid() bool { return v == AgreeValid }

// String returns a word for logs and metric labels.
func (v Verdict) String() string {
	switch v {
	case AgreeValid:
		return "valid"
	case AgreeInvalid:
		return "invalid"
	case Split:
		return "split"
	}
	return "none"
}

// VerifyBoth asks both engines about the signature of msg under DefaultUID. The
// second is asked even when the first rejects: a rejected valid signature is as
// much a split as an accepted forgery.
func VerifyBoth(a, b Engine, key PublicKey, msg []byte, sig Signature) Verdict {
	first, second := a.Verify(key, msg, sig), b.Verify(key, msg, sig)
	switch {
	case first && second:
		return AgreeValid
	case !first && !second:
		return AgreeInvalid
	}
	return Split
}
