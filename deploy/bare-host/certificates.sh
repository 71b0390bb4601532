#!/bin/sh
# usage: certificates.sh FOLDER HOST...
# An authority of our own, and certificates for the gateways and for each engine's host. Run again, it
# keeps the authority and renews the rest. The authority's key stays with you: no host needs it.
set -eu
umask 077
folder=$1
shift
mkdir -p "$folder"
cd "$folder"
key="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
if [ ! -e ca.key ]; then
    # shellcheck disable=SC2086
    openssl req -x509 $key -days 3650 -subj "/CN=ballast engines" -keyout ca.key -out ca.crt
fi
for name in ballast-gateway "$@"; do
    mkdir -p "$name"
    case $name in
        *[!0-9.]*) kind=DNS ;;
        *) kind=IP ;;
    esac
    # shellcheck disable=SC2086
    openssl req $key -subj "/CN=$name" -keyout "$name/tls.key" -out "$name/request"
    printf 'subjectAltName=%s:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$kind" "$name" \
        >"$name/extensions"
    openssl x509 -req -in "$name/request" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 \
        -extfile "$name/extensions" -out "$name/tls.crt"
    cp ca.crt "$name/ca.crt"
    rm "$name/request" "$name/extensions"
done
