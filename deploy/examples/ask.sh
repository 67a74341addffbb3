#!/usr/bin/env bash
# Signs a question with SM2 (RFC 9421), sends it to a node and prints the answer.
# Needs bash 4.4, curl and openssl 3; crypto/httpsig/DESIGN.md describes the signature.
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: ask.sh --node URL --system NAME --key FILE [options] QUESTION

Asks another department through this department's node. QUESTION is a JSON file as
openapi.yaml describes it, or - for standard input. The answer goes to standard
output, everything else to standard error.

  --node URL             the node, https://host:port
  --system NAME          this system's name in the node's configuration
  --key FILE             its SM2 private key: openssl genpkey -algorithm SM2 -out FILE
                         The node gets the public one: openssl pkey -in FILE -pubout
  --ca FILE              root of the node's web certificate; default: the machine's roots
  --idempotency-key KEY  8 to 128 of A-Z a-z 0-9 . _ : - ; keep it with the case and give
                         it again to ask again. Default: a new one, printed
  --lang zh-CN|en        language of texts; default zh-CN

exit: 0 answered, 1 failed or not known yet, 2 usage, 4 denied
TEXT
}

wrong() {
  echo "ask.sh: $1" >&2
  usage >&2
  exit 2
}

fail() {
  echo "ask.sh: $1" >&2
  exit 1
}

node='' system='' key='' ca='' idempotency='' lang=zh-CN question=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --node | --system | --key | --ca | --idempotency-key | --lang)
      (($# >= 2)) || wrong "$1 needs a value"
      case $1 in
        --node) node=${2%/} ;;
        --system) system=$2 ;;
        --key) key=$2 ;;
        --ca) ca=$2 ;;
        --idempotency-key) idempotency=$2 ;;
        --lang) lang=$2 ;;
      esac
      shift 2 ;;
    -?*) wrong "unknown option $1" ;;
    *)
      [[ -z $question ]] || wrong 'more than one question'
      question=$1
      shift ;;
  esac
done
[[ -n $node && -n $system && -n $key && -n $question ]] || wrong '--node, --system, --key and a question are required'
[[ $node =~ ^https://([][A-Za-z0-9.:-]+)$ ]] || wrong 'the node is not https://host:port'
authority=${BASH_REMATCH[1],,}
authority=${authority%:443}
[[ $system =~ ^[a-z][a-z0-9-]{1,31}$ ]] || wrong 'the name of the system has other characters than a-z, 0-9 and -'
[[ $lang == zh-CN || $lang == en ]] || wrong 'the language is neither zh-CN nor en'
: "${idempotency:=$(openssl rand -hex 16)}"
[[ $idempotency =~ ^[A-Za-z0-9._:-]{8,128}$ ]] || wrong 'the idempotency key is malformed'

umask 077
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# One copy, so that what is hashed is what is sent.
cat -- "$question" >"$work/body" || fail 'the question cannot be read'

target=https://$authority/api/v1/exchanges
digest="sm3=:$(openssl dgst -sm3 -binary "$work/body" | openssl base64 -A):"
options=()
[[ -z $ca ]] || options=(--cacert "$ca")

# send signs the question anew, with a time and a nonce of its own, and sets status.
send() {
  local created nonce params code=0
  created=$(date +%s)
  nonce=$(openssl rand -hex 16)
  params='("@method" "@authority" "@target-uri" "content-digest" "content-type" "idempotency-key")'
  params+=";created=$created;expires=$((created + 120));nonce=\"$nonce\";keyid=\"$system\";tag=\"xinqiao-v1\""
  printf '"@method": POST\n"@authority": %s\n"@target-uri": %s\n"content-digest": %s\n"content-type": application/json\n"idempotency-key": %s\n"@signature-params": %s' \
    "$authority" "$target" "$digest" "$idempotency" "$params" >"$work/base"
  openssl pkeyutl -sign -rawin -digest sm3 -pkeyopt distid:1234567812345678 -inkey "$key" -in "$work/base" -out "$work/sig" ||
    fail 'openssl did not sign; is the key an SM2 key, and openssl version 3 or later?'
  status=$(curl -q --silent --show-error --noproxy '*' --proto =https --tlsv1.3 --max-time 90 "${options[@]}" \
    --header "Content-Type: application/json" --header "Content-Digest: $digest" --header "Idempotency-Key: $idempotency" \
    --header "Accept-Language: $lang" --header "Signature-Input: sig1=$params" \
    --header "Signature: sig1=:$(openssl base64 -A -in "$work/sig"):" --header 'Expect:' \
    --data-binary @"$work/body" --output "$work/answer" --write-out '%{http_code}' "$target") || code=$?
  case $code in
    0 | 7 | 28 | 52 | 55 | 56) ;; # not reached, too slow or broken off: may work later
    *) fail "curl could not speak with the node (its exit code is $code)" ;;
  esac
  ((code == 0)) || status=000
}

echo "ask.sh: idempotency key $idempotency" >&2
for attempt in 1 2 3 4 5; do
  send
  case $status in
    000 | 202 | 503) ((attempt == 5)) || sleep 2 ;; # the same key never asks twice
    *) break ;;
  esac
done
[[ ! -s $work/answer ]] || { cat "$work/answer"; echo; }
case $status in
  200) exit 0 ;;
  403) grep -q '"outcome":"denied"' "$work/answer" && exit 4 ;;
  000 | 202 | 503) fail 'not known yet: ask again with this idempotency key' ;;
esac
fail "the node refused the request with status $status"
