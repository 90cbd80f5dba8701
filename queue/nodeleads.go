package queue

// Leads says whether the node leads the others in what waits to be run, as it sees
// it: one that was just cut off may not know yet that it does not.
func (n *Node) Leads() bool { return n.server.JetStreamIsStreamLeader(clientSpace, workStream) }
