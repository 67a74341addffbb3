package httpsig

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// input is the one member of a Signature-Input field.
type input struct {
	label      string
	components []string
	params     []param
	value      string // the member's value as sent, which is its canonical form
}

// param is a parameter with a string or an integer.
type param struct {
	name   string
	text   string
	number int64
	isText bool
}

// parseInput reads a Signature-Input field with exactly one member: a list of
// strings without parameters, and parameters with strings and integers. Of the
// forms that RFC 8941 gives one value, only the one that its serialisation
// writes is accepted, so that what was sent and what is signed are the same bytes.
func parseInput(field string) (input, error) {
	malformed := fail(Malformed, "Signature-Input is not one list of components with parameters in canonical form")
	if len(field) > maxField {
		return input{}, malformed
	}
	var in input
	s := scanner{rest: field}
	in.label = s.key()
	s.expect('=')
	in.value = s.rest
	s.expect('(')
	for !s.bad && !s.next(')') {
		if len(in.components) > 0 {
			s.expect(' ')
		}
		in.components = append(in.components, s.text())
		s.bad = s.bad || len(in.components) > maxComponents
	}
	for !s.bad && s.next(';') {
		p := param{name: s.key()}
		s.expect('=')
		if p.isText = strings.HasPrefix(s.rest, `"`); p.isText {
			p.text = s.text()
		} else {
			p.number = s.integer()
		}
		in.params = append(in.params, p)
		s.bad = s.bad || len(in.params) > maxParameters
	}
	if s.bad || s.rest != "" {
		return input{}, malformed
	}
	return in, nil
}

// written returns the field in canonical form.
func (in input) written() string {
	var b strings.Builder
	b.WriteString(in.label + "=(")
	for i, name := range in.components {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(quote(name))
	}
	b.WriteByte(')')
	for _, p := range in.params {
		b.WriteString(";" + p.name + "=")
		if p.isText {
			b.WriteString(quote(p.text))
		} else {
			b.WriteString(strconv.FormatInt(p.number, 10))
		}
	}
	return b.String()
}

// parseBytes reads a dictionary with one member that is a byte sequence, as
// Signature and Content-Digest hold it.
func parseBytes(field string) (label string, value []byte, ok bool) {
	if len(field) > maxField {
		return "", nil, false
	}
	s := scanner{rest: field}
	label = s.key()
	s.expect('=')
	value = s.bytes()
	return label, value, !s.bad && s.rest == ""
}

// formatBytes is the reverse of parseBytes.
func formatBytes(label string, value []byte) string {
	return label + "=:" + base64.StdEncoding.EncodeToString(value) + ":"
}

// quote writes a string of RFC 8941. The caller has checked its characters.
func quote(s string) string {
	b := append(make([]byte, 0, len(s)+2), '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return string(append(b, '"'))
}

// scanner takes tokens of RFC 8941 from the front of rest. After the first that
// is not there it is bad and takes no more.
type scanner struct {
	rest string
	bad  bool
}

func (s *scanner) next(c byte) bool {
	if s.bad || s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// expect takes c; next is false of a bad scanner, so bad stays bad.
func (s *scanner) expect(c byte) { s.bad = !s.next(c) }

// take cuts off n bytes.
func (s *scanner) take(n int) string {
	t := s.rest[:n]
	s.rest = s.rest[n:]
	return t
}

// key takes a key: lcalpha or "*", then lcalpha, digits and _-.*
func (s *scanner) key() string {
	n := 0
	for n < len(s.rest) && (lower(s.rest[n]) || s.rest[n] == '*' || n > 0 && (digit(s.rest[n]) || strings.IndexByte("_-.", s.rest[n]) >= 0)) {
		n++
	}
	s.bad = s.bad || n == 0
	return s.take(n)
}

// text takes a quoted string of printable ASCII.
func (s *scanner) text() string {
	s.expect('"')
	var b strings.Builder
	for !s.bad && !s.next('"') {
		if s.next('\\') && (s.rest == "" || s.rest[0] != '"' && s.rest[0] != '\\') || s.rest == "" || s.rest[0] < ' ' || s.rest[0] > '~' {
			s.bad = true
			break
		}
		b.WriteString(s.take(1))
	}
	return b.String()
}

// integer takes at most 15 digits, with a sign only where it says something.
func (s *scanner) integer() int64 {
	n := 0
	for n < len(s.rest) && (digit(s.rest[n]) || n == 0 && s.rest[n] == '-') {
		n++
	}
	t := s.take(n)
	digits := strings.TrimPrefix(t, "-")
	v, err := strconv.ParseInt(t, 10, 64)
	s.bad = s.bad || err != nil || len(digits) > 15 || digits[0] == '0' && t != "0"
	return v
}

// bytes takes :base64: in the one encoding that a value has.
func (s *scanner) bytes() []byte {
	s.expect(':')
	n := strings.IndexByte(s.rest, ':')
	if s.bad || n < 0 {
		s.bad = true
		return nil
	}
	t := s.take(n)
	v, err := base64.StdEncoding.Strict().DecodeString(t)
	s.bad = err != nil || strings.ContainsAny(t, "\r\n") // which the decoder skips
	s.expect(':')
	return v
}

func lower(c byte) bool { return 'a' <= c && c <= 'z' }
func digit(c byte) bool { return '0' <= c && c <= '9' }
