package demo

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"xinqiao/crypto/gm"
	"xinqiao/exchange"
	"xinqiao/exchange/material"
	"xinqiao/exchange/source"
)

// issuers is how many materials are issued, or stored, at a time.
const issuers = 2

// Issue certifies all that dept holds with s, whose signing certificate has the
// fingerprint cert, and puts it into the vault. It returns how many materials it
// issued; on an error some may be in the vault.
func Issue(e gm.Engine, s material.Signer, cert gm.Digest, v *source.Vault, dept exchange.Dept, p *Population, now time.Time) (int, error) {
	records := p.Records(dept)
	issued := make([]source.Record, len(records))
	errs := make([]error, issuers)
	var wg sync.WaitGroup
	for worker := range issuers {
		wg.Go(func() {
			for i := worker; i < len(records); i += issuers {
				m, err := certify(e, s, cert, dept, records[i], now)
				if err != nil {
					errs[worker] = err
					return
				}
				issued[i] = source.Record{Subject: records[i].Subject, Material: m}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, fmt.Errorf("issue the materials of %s: %w", dept, err)
		}
	}
	if err := v.PutAll(issued, issuers); err != nil {
		return 0, fmt.Errorf("issue the materials of %s: %w", dept, err)
	}
	return len(issued), nil
}

func certify(e gm.Engine, s material.Signer, cert gm.Digest, dept exchange.Dept, r Record, now time.Time) (material.Material, error) {
	return material.Issue(e, s, rand.Reader, material.Draft{Item: r.Item, Schema: schema, Subject: r.Subject, Issuer: dept, Cert: cert,
		IssuedAt: now, Fields: r.Fields})
}
