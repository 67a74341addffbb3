package api

import (
	"fmt"
	"net/http"

	"xinqiao/exchange"
)

// Bounds of a consent's lists.
const (
	maxPurposes = 16
	maxEvidence = 16
	maxOfficers = 4
)

func (s *server) register(w http.ResponseWriter, r *http.Request, sys System) error {
	key, err := idempotencyKey(r)
	if err != nil {
		return err
	}
	var c Consent
	if err := body(w, r, &c); err != nil {
		return err
	}
	if err := c.check(s.cfg.Population); err != nil {
		return err
	}
	a, err := s.cfg.Authorities.Register(r.Context(), sys.Name, key, c.noun())
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/api/v1/authorities/"+a.ID)
	return reply(w, http.StatusCreated, toAuthority(a))
}

func (s *server) authority(w http.ResponseWriter, r *http.Request, _ System) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	a, err := s.cfg.Authorities.Authority(r.Context(), id)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, toAuthority(a))
}

func (s *server) withdraw(w http.ResponseWriter, r *http.Request, sys System) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	var in Withdrawal
	if err := body(w, r, &in); err != nil {
		return err
	}
	if !exchange.Purpose(in.Reason).Valid() {
		return invalid(exchange.CodeField, "/reason", "reason is not a code of a-z, 0-9, _ and - that begins with a letter")
	}
	a, err := s.cfg.Authorities.Withdraw(r.Context(), sys.Name, id, in.Reason)
	if err != nil {
		return err
	}
	return reply(w, http.StatusOK, toAuthority(a))
}

// check looks at the form alone; whether a consent suffices is not for the API
// to say.
func (c *Consent) check(p exchange.Population) error {
	bad := func(pointer, format string, args ...any) error {
		return invalid(exchange.CodeField, pointer, format, args...)
	}
	switch {
	case !c.Provider.Valid():
		return bad("/provider", "provider is not the name of a department")
	case !c.Matter.Valid():
		return bad("/matter", "matter is not a matter code of 6 to 31 digits")
	case !c.Case.Valid():
		return bad("/case", "case is not a case number")
	case len(c.Purposes) == 0 || len(c.Purposes) > maxPurposes:
		return bad("/purposes", "purposes does not name 1 to %d purposes", maxPurposes)
	case len(c.Views) == 0 || len(c.Views) > exchange.MaxViews:
		return bad("/views", "views does not name 1 to %d views", exchange.MaxViews)
	case c.NotAfter.IsZero():
		return bad("/notAfter", "notAfter is missing")
	case !c.NotBefore.IsZero() && !c.NotBefore.Before(c.NotAfter):
		return bad("/notAfter", "notAfter is not after notBefore")
	case c.MaxReads == 0:
		return bad("/maxReads", "maxReads is not at least 1")
	case c.Channel != "window" && c.Channel != "authenticated":
		return bad("/channel", `channel is neither "window" nor "authenticated"`)
	case len(c.Evidence) > maxEvidence:
		return bad("/evidence", "evidence has more than %d hashes", maxEvidence)
	case len(c.Officers) > maxOfficers:
		return bad("/officers", "officers has more than %d names", maxOfficers)
	case c.Notice.Template == "" || len(c.Notice.Template) > 64 || !only(c.Notice.Template, "._-"):
		return bad("/notice/template", "template is not a name of 1 to 64 letters, digits and ._-")
	case !hash(c.Notice.Hash):
		return bad("/notice/hash", "hash is not 64 hexadecimal digits in lower case")
	case c.Notice.Lang == "" || len(c.Notice.Lang) > 16 || !only(c.Notice.Lang, "-"):
		return bad("/notice/lang", "lang is not a language tag")
	}
	for i, v := range c.Purposes {
		if !v.Valid() {
			return bad(fmt.Sprintf("/purposes/%d", i), "not a purpose code")
		}
	}
	for i, v := range c.Views {
		if !v.Item.Valid() || !exchange.View(v.Field).Valid() {
			return bad(fmt.Sprintf("/views/%d", i), "the view is malformed or discloses nothing")
		}
	}
	for i, v := range c.Evidence {
		if !hash(v) {
			return bad(fmt.Sprintf("/evidence/%d", i), "not 64 hexadecimal digits in lower case")
		}
	}
	for i, v := range c.Officers {
		if !v.Valid() {
			return bad(fmt.Sprintf("/officers/%d", i), "not an operator's identifier")
		}
	}
	if err := exchange.Subject(c.Subject).Check(p); err != nil {
		err.Pointer = "/subject/id"
		return err
	}
	return nil
}

// hash reports whether s is an SM3 hash in lower-case hexadecimal.
func hash(s string) bool {
	return len(s) == 64 && exchange.ValidID(s[:32]) && exchange.ValidID(s[32:])
}
