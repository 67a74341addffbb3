package replica

// Abandon stops at once and hands leadership to nobody: to the others it is as
// if the process had died. What was committed is durable all the same.
func (r *Replica) Abandon() error { return r.close() }
