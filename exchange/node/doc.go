// Package node assembles one running node from a Config and takes it apart
// again. A node is a value: tests and the demo hold several.
package node
