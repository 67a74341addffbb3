package httpsig

// Base returns the signature base that a Signature-Input field asks for.
func Base(m Message, field string) (string, error) {
	in, err := parseInput(field)
	if err != nil {
		return "", err
	}
	b, err := base(m, in.components, in.value)
	return string(b), err
}

// ParseInput returns a Signature-Input field as it would be written again.
func ParseInput(field string) (string, error) {
	in, err := parseInput(field)
	if err != nil {
		return "", err
	}
	return in.written(), nil
}

// ParseBytes reads a dictionary of one byte sequence and writes it again.
func ParseBytes(field string) (string, bool) {
	name, value, ok := parseBytes(field)
	return formatBytes(name, value), ok
}

// Kept counts the nonces that are remembered.
func (r *Replays) Kept() (n int) {
	for _, k := range r.keys {
		n += len(k.seen)
	}
	return n
}

// FormatBytes writes a dictionary of one byte sequence.
func FormatBytes(name string, value []byte) string { return formatBytes(name, value) }
