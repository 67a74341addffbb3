// Package rule reads the YAML form that a data owner writes, and compiles it
// twice: to the closed form that package policy decides by, and through an
// abstract syntax tree to Cedar, whose verdict must be the same.
//
// The form is closed. Unknown and duplicate keys, codes that are in no list,
// aliases, tags and wildcards are errors with their place in the file. A rule
// brings its own examples, and does not load unless each comes out as it says.
package rule
