# Reads a CustomResourceDefinition as `quorate crd` writes it, prints its fields as Markdown.
#
# It knows as much of YAML as the generator writes: block maps and lists, plain and quoted scalars
# of one line, literal blocks. What it does not know, it refuses.

function fail(what) {
    print "crd-doc: line " NR ": " what > "/dev/stderr"
    broken = 1
    exit 1
}

function unquote(text) {
    if (text ~ /^'.*'$/) {
        text = substr(text, 2, length(text) - 2)
        gsub(/''/, "'", text)
    } else if (text ~ /^".*"$/) {
        text = substr(text, 2, length(text) - 2)
        gsub(/\\"/, "\"", text)
        gsub(/\\n/, " ", text)
        gsub(/\\\\/, "\\", text)
    } else if (text ~ /^[&*!>]/ || text ~ /^[\[{]./ && text != "{}" && text != "[]") {
        fail("cannot read the value " text)
    }
    return text
}

function path(   i, all) {
    all = ""
    for (i = 1; i <= depth; i++) all = all "/" name[i]
    return all
}

function pop(from) { while (depth > 0 && indent[depth] >= from) depth-- }

function push(key, at) {
    depth++
    name[depth] = key
    indent[depth] = at
}

# One "key: value" or scalar of a list, at a given indent.
function entry(text, at,   colon, key, value, parent) {
    if (match(text, /^[^'" ][^ ]*:( |$)/)) {
        colon = RLENGTH
        if (substr(text, colon, 1) == " ") colon--
        key = unquote(substr(text, 1, colon - 1))
        value = substr(text, colon + 2)
        pop(at)
        parent = path()
        push(key, at)
        if (!((parent, key) in known)) {
            known[parent, key] = 1
            children[parent] = children[parent] (children[parent] == "" ? "" : "\n") key
        }
    } else {
        value = text
    }
    if (value ~ /^[|>][-+]?$/) {
        block = path()
        block_at = at
    } else if (value != "") {
        values[path()] = unquote(value)
    }
}

/^ *#/ && !block { next }
{
    match($0, /^ */)
    at = RLENGTH
    text = substr($0, at + 1)
    if (block != "") {
        if (text == "" || at > block_at) {
            values[block] = values[block] (values[block] == "" ? "" : " ") text
            next
        }
        block = ""
    }
    if (text == "" || text == "---") next
    while (text == "-" || text ~ /^- /) {
        pop(at + 0.5)
        # A list stands at its key's own indent; the key stays.
        parent = path()
        push("#" (count[parent]++), at + 0.5)
        text = substr(text, 3)
        at += 2
    }
    entry(text, at)
}

function escape(text) {
    gsub(/\|/, "\\|", text)
    gsub(/</, "\\&lt;", text)
    gsub(/\n/, " ", text)
    return text
}

function type_of(at,   type) {
    type = values[at "/type"]
    if (type == "array") return "list of " type_of(at "/items")
    if (values[at "/x-kubernetes-int-or-string"] == "true") return "number or text"
    if (type == "object" && children[at "/additionalProperties"] != "")
        return "map of " type_of(at "/additionalProperties")
    if (type == "object" && children[at "/properties"] == "") return "object"
    if (type == "") return "any"
    if (type == "string") return "text"
    return type
}

function is_required(at, key,   i) {
    for (i = 0; i < count[at "/required"]; i++)
        if (values[at "/required/#" i] == key) return 1
    return 0
}

function limits(at,   all, i, low, high) {
    low = values[at "/minimum"]; high = values[at "/maximum"]
    if (low != "" && high != "") all = all "; " low " to " high
    else if (low != "") all = all "; at least " low
    else if (high != "") all = all "; at most " high
    low = values[at "/minItems"]; high = values[at "/maxItems"]
    if (low != "" && high != "") all = all "; " low " to " high " of them"
    else if (high != "") all = all "; at most " high " of them"
    if (values[at "/maxProperties"] != "") all = all "; at most " values[at "/maxProperties"] " of them"
    if (values[at "/maxLength"] != "") all = all "; at most " values[at "/maxLength"] " characters"
    if (values[at "/pattern"] != "") all = all "; matches `" values[at "/pattern"] "`"
    if (count[at "/enum"] > 0) {
        all = all "; one of"
        for (i = 0; i < count[at "/enum"]; i++) all = all (i ? ", " : " ") "`" values[at "/enum/#" i] "`"
    }
    if (values[at "/default"] != "") all = all "; default `" values[at "/default"] "`"
    return substr(all, 3)
}

# The rules of this schema and of its items, as they are told to whoever breaks one.
function rules(at, shown,   i, n, below) {
    n = count[at "/x-kubernetes-validations"]
    for (i = 0; i < n; i++) {
        below = at "/x-kubernetes-validations/#" i
        refusals = refusals "- `" shown "`: " escape(values[below "/message"]) "\n"
    }
}

function fields(at, shown,   list, n, i, key, below, told, limit, inner) {
    rules(at, shown)
    n = split(children[at "/properties"], list, "\n")
    for (i = 1; i <= n; i++) {
        key = list[i]
        below = at "/properties/" key
        told = escape(values[below "/description"])
        limit = escape(limits(below))
        if (values[below "/type"] == "array" && limits(below "/items") != "")
            limit = limit (limit == "" ? "" : "; ") "each " escape(limits(below "/items"))
        if (is_required(at, key)) told = "**Required.** " told
        print "| `" shown "." key "` | " type_of(below) " | " told (limit == "" ? "" : " *(" limit ")*") " |"
        if (values[below "/type"] == "array") {
            fields_of_items(below "/items", shown "." key "[]", below)
        } else {
            fields(below, shown "." key)
            inner = below "/additionalProperties"
            if (children[inner "/properties"] != "") fields(inner, shown "." key ".*")
        }
    }
}

function fields_of_items(at, shown, list) {
    rules(list, substr(shown, 1, length(shown) - 2))
    fields(at, shown)
}

END {
    if (broken) exit 1
    version = "/spec/versions/#0"
    schema = version "/schema/openAPIV3Schema"
    kind = values["/spec/names/kind"]
    if (kind == "" || children[schema "/properties"] == "") fail("this is no definition that I know")
    print "# " kind " (" values["/spec/group"] "/" values[version "/name"] ")"
    print ""
    print "Generated from `" source "` by `make generate`; do not edit."
    print ""
    print values[schema "/description"]
    printf "Short name: `%s`. ", values["/spec/names/shortNames/#0"]
    print "`kubectl explain " values["/spec/names/singular"] ".spec` says the same as this page."
    print ""
    print "## spec"
    print ""
    print escape(values[schema "/properties/spec/description"])
    print ""
    print "| Field | Type | What it is |"
    print "|---|---|---|"
    fields(schema "/properties/spec", "spec")
    print ""
    print "## status"
    print ""
    if (children[schema "/properties/status/properties"] == "") {
        print "An object of no fixed form as yet."
    } else {
        if (values[schema "/properties/status/description"] != "") {
            print escape(values[schema "/properties/status/description"])
            print ""
        }
        print "| Field | Type | What it is |"
        print "|---|---|---|"
        fields(schema "/properties/status", "status")
    }
    rules(schema, "the object")
    print ""
    print "## What is refused"
    print ""
    print "By the API server, when the object is written, with these words:"
    print ""
    printf "%s", refusals
    print ""
    print "## What kubectl shows"
    print ""
    print "| Column | Where it is from |"
    print "|---|---|"
    columns = version "/additionalPrinterColumns"
    for (i = 0; i < count[columns]; i++)
        print "| " values[columns "/#" i "/name"] " | `" escape(values[columns "/#" i "/jsonPath"]) "` |"
    scale = version "/subresources/scale"
    if (children[scale] != "") {
        print ""
        print "`kubectl scale` and autoscalers set `" substr(values[scale "/specReplicasPath"], 2) "`."
    }
}
