package api

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"strings"
	"unicode/utf8"

	"xinqiao/exchange"
)

// Limits of a request body.
const (
	maxBody  = 64 << 10
	maxDepth = 16
)

func invalid(code exchange.Code, pointer, format string, args ...any) *exchange.Error {
	return &exchange.Error{Kind: exchange.Invalid, Code: code, Msg: fmt.Sprintf(format, args...), Pointer: pointer}
}

// body reads the request's JSON into v, a pointer to a struct.
func body(w http.ResponseWriter, r *http.Request, v any) error {
	media, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || media != "application/json" || (charset != "" && !strings.EqualFold(charset, "utf-8")) ||
		r.Header.Get("Content-Encoding") != "" {
		return &exchange.Error{Kind: exchange.Unsupported, Code: exchange.CodeContentType,
			Msg: "the body is not declared as plain application/json in UTF-8"}
	}
	raw, err := read(w, r)
	if err != nil {
		return err
	}
	return Decode(raw, v)
}

// read returns the request's body, up to the limit.
func read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &exchange.Error{Kind: exchange.TooLarge, Code: exchange.CodeTooLarge,
			Msg: fmt.Sprintf("the body is larger than %d bytes", maxBody)}
	}
	if err != nil {
		return nil, &exchange.Error{Kind: exchange.Invalid, Code: exchange.CodeJSON, Msg: "the body ended early", Err: err}
	}
	return raw, nil
}

// Decode reads exactly one JSON value into v, a pointer to a struct. It is
// stricter than encoding/json, because two readers of one message must never
// see two meanings: unknown members, members that differ in case, duplicate
// members, null, bytes that are not UTF-8, lone surrogates, trailing data and
// deep nesting are each an error with a JSON pointer where there is one.
func Decode(raw []byte, v any) error {
	if !utf8.Valid(raw) {
		return invalid(exchange.CodeJSON, "", "the body is not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := walk(dec, reflect.TypeOf(v).Elem(), "", 0); err != nil {
		if e := (*exchange.Error)(nil); errors.As(err, &e) {
			return e
		}
		return invalid(exchange.CodeJSON, "", "the body is not well-formed JSON")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid(exchange.CodeJSON, "", "something follows the JSON value")
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return invalid(exchange.CodeField, "", "a member has the wrong type or form")
	}
	return nil
}

// walk checks the next value of dec against the shape of t: what json.Unmarshal
// would let pass, and where it would not say exactly what is wrong.
func walk(dec *json.Decoder, t reflect.Type, pointer string, depth int) error {
	if depth > maxDepth {
		return invalid(exchange.CodeJSON, pointer, "the JSON is nested more than %d deep", maxDepth)
	}
	token, err := dec.Token()
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case nil:
		return invalid(exchange.CodeField, pointer, "null is not accepted: leave the member out")
	case json.Delim:
		if token == '{' {
			return walkObject(dec, t, pointer, depth)
		}
		return walkArray(dec, t, pointer, depth)
	case string:
		if strings.ContainsRune(token, utf8.RuneError) {
			return invalid(exchange.CodeJSON, pointer, "a string holds a lone surrogate or a replacement character")
		}
	}
	// Tried here already, because only here is the exact pointer known. The
	// cause is left out: it could quote the value.
	raw, err := json.Marshal(token)
	if err == nil {
		err = json.Unmarshal(raw, reflect.New(t).Interface())
	}
	if err != nil {
		return invalid(exchange.CodeField, pointer, "the member has the wrong type or form")
	}
	return nil
}

func walkObject(dec *json.Decoder, t reflect.Type, pointer string, depth int) error {
	members := membersOf(t)
	if members == nil {
		return invalid(exchange.CodeField, pointer, "an object stands where none is expected")
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return err
		}
		name, ok := token.(string)
		if !ok {
			return errors.New("member name is not a string")
		}
		member, known := members[name]
		if !known {
			return invalid(exchange.CodeJSON, pointer, "a member is unknown; names are case-sensitive")
		}
		if seen[name] {
			return invalid(exchange.CodeJSON, pointer+"/"+name, "a member stands twice")
		}
		seen[name] = true
		if err := walk(dec, member, pointer+"/"+name, depth+1); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

func walkArray(dec *json.Decoder, t reflect.Type, pointer string, depth int) error {
	if t.Kind() != reflect.Slice {
		return invalid(exchange.CodeField, pointer, "an array stands where none is expected")
	}
	for i := 0; dec.More(); i++ {
		if err := walk(dec, t.Elem(), fmt.Sprintf("%s/%d", pointer, i), depth+1); err != nil {
			return err
		}
	}
	_, err := dec.Token()
	return err
}

// membersOf returns the JSON members of a struct type, nil for what JSON does
// not write as an object.
func membersOf(t reflect.Type) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return nil
	}
	members := map[string]reflect.Type{}
	for i := range t.NumField() {
		if t.Field(i).Anonymous {
			maps.Copy(members, membersOf(t.Field(i).Type))
			continue
		}
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if name != "" && name != "-" {
			members[name] = t.Field(i).Type
		}
	}
	return members
}
