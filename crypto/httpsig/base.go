package httpsig

import (
	"strings"
)

// base returns the signature base of RFC 9421, section 2.5: one line for each
// component, and the parameters as the last.
func base(m Message, components []string, params string) ([]byte, error) {
	var b strings.Builder
	seen := map[string]bool{}
	for _, name := range components {
		if seen[name] {
			return nil, fail(Malformed, "a component is covered twice")
		}
		seen[name] = true
		value, err := component(m, name)
		if err != nil {
			return nil, err
		}
		b.WriteString(quote(name) + ": " + value + "\n")
	}
	b.WriteString(`"@signature-params": ` + params)
	return []byte(b.String()), nil
}

// component returns the value of a component (RFC 9421, sections 2.1 and 2.2).
func component(m Message, name string) (string, error) {
	switch name {
	case "@method":
		return m.Method, token(m.Method)
	case "@authority":
		return authority(m)
	case "@path", "@query", "@target-uri":
		if err := target(m.Target); err != nil {
			return "", err
		}
		path, query, _ := strings.Cut(m.Target, "?")
		switch name {
		case "@path":
			return path, nil
		case "@query":
			return "?" + query, nil
		}
		host, err := authority(m)
		return m.Scheme + "://" + host + m.Target, err
	}
	return field(m, name)
}

// field returns the combined value of a header field (RFC 9421, section 2.1):
// lines trimmed and joined by a comma and a space.
func field(m Message, name string) (string, error) {
	switch {
	case name != strings.ToLower(name) || token(name) != nil:
		return "", fail(Malformed, "a covered component is not known or not in lower case")
	case name == "host" || name == "signature" || name == "signature-input":
		// net/http keeps the first elsewhere, which @authority covers; the others cannot cover themselves.
		return "", fail(Malformed, "a covered field is none that a signature of this profile can cover")
	}
	lines := m.Header.Values(name)
	if len(lines) == 0 {
		return "", fail(Coverage, "a covered field is not in the request")
	}
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = strings.Trim(line, " \t")
		for j := range len(trimmed[i]) {
			if c := trimmed[i][j]; (c < ' ' && c != '\t') || c > '~' {
				return "", fail(Malformed, "a covered field holds a line break or what is not ASCII")
			}
		}
	}
	return strings.Join(trimmed, ", "), nil
}

// authority returns the normalised authority (RFC 9421, section 2.2.3): lower
// case, without the scheme's default port.
func authority(m Message) (string, error) {
	malformed := fail(Malformed, "the scheme or authority is not well-formed")
	port := map[string]string{"https": ":443", "http": ":80"}[m.Scheme]
	if port == "" {
		return "", malformed
	}
	host := strings.TrimSuffix(strings.ToLower(m.Authority), port)
	for i := range len(host) {
		if c := host[i]; !lower(c) && !digit(c) && strings.IndexByte("-._~[]:", c) < 0 {
			return "", malformed
		}
	}
	if host == "" || strings.HasPrefix(host, ":") || strings.HasSuffix(host, ":") {
		return "", malformed
	}
	return host, nil
}

// target accepts the origin form of RFC 9112, section 3.2.1, and no other.
func target(s string) error {
	ok := strings.HasPrefix(s, "/")
	for i := range len(s) {
		ok = ok && s[i] > ' ' && s[i] <= '~' && s[i] != '#'
	}
	if !ok {
		return fail(Malformed, "the request target is not a path with a query")
	}
	return nil
}

// token accepts a token of RFC 9110, section 5.6.2.
func token(s string) error {
	ok := s != ""
	for i := range len(s) {
		c := s[i]
		ok = ok && (lower(c|0x20) || digit(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0)
	}
	if !ok {
		return fail(Malformed, "the method or a component's name is not a token")
	}
	return nil
}
