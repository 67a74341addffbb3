package node_test

import (
	"testing"
)

// TestNetwork runs what can share one network of six nodes, all at once.
func TestNetwork(t *testing.T) {
	n := found(t)
	giveKeys(t, n)
	n.start(t, n.all()...)
	n.ready(t)
	for _, c := range []struct {
		name string
		run  func(*testing.T, *network)
	}{
		{"two fields and no more", twoFieldsAndNoMore},
		{"no record is an answer", noRecordIsAnAnswer},
		{"denials", denials},
		{"withdrawn at either side", withdrawnAtEitherSide},
		{"reads are exact", readsAreExact},
		{"one key, one entry", oneKeyOneEntry},
		{"withdrawal races with reads", withdrawalRacesWithReads},
		{"strange requests", strangeRequests},
		{"replays", replays},
		{"forged frames", forgedFrames},
		{"forged heads", forgedHeads},
		{"bad input", badInput},
		{"metrics", metricsAsDocumented},
		{"prometheus", scrapedByPrometheus},
		{"ledger pages", ledgerPages},
		{"signed requests", signedRequests},
		{"curl and openssl", curlAndOpenSSL},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, n)
		})
	}
}
