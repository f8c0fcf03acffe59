#!/bin/bash
# Makes N photograph-like images in DIR, the same ones every time: landscapes put together from plasma,
# gradients and noise, then crops, turns, flips and changes of light of those; several sizes and formats.
# Six of them (fewer of a small N) are broken on purpose; their names are listed in DIR/../broken.txt
# so that nothing but images lies in DIR. A folder that is complete already is left as it is.
# usage: tools/make-images.sh DIR [N]
set -eu
PATH=/usr/sbin:/usr/bin:/sbin:/bin
# One thread for each process: there are as many processes as cores already. (Asked for first: nproc
# takes OMP_NUM_THREADS for its answer.)
cores=$(nproc)
export MAGICK_THREAD_LIMIT=1 OMP_NUM_THREADS=1

dir=${1:?usage: tools/make-images.sh DIR [N]}
n=${2:-1000}
case $n in '' | *[!0-9]* | 0*) echo "make-images: N is '$n'; a number from 1 up is needed" >&2; exit 2 ;; esac
command -v convert >/dev/null || { echo "make-images: no convert here; tools/setup.sh installs imagemagick" >&2; exit 1; }

recipe=1    # count up when the images change, so that old folders are made anew
stamp=$dir/../.images-$recipe-$n
if [ -f "$stamp" ] && [ "$(find "$dir" -type f | wc -l)" -eq "$n" ]; then
    exit 0
fi
rm -rf "$dir"
mkdir -p "$dir"
work=$(mktemp -d "$dir/../.make-images.XXXXXX")
trap 'rm -rf "$work"' EXIT

scenes=24
[ "$n" -ge 240 ] || scenes=$(((n + 9) / 10))

# One landscape: a sky of plasma over a gradient, a sun, two ridges, grain, a soft vignette. What is
# smooth is made small and enlarged, which is most of what keeps this fast.
make_scene() {
    local s=$1 hue ridge near
    hue=$(((s * 47) % 200))
    ridge=$((230 + (s * 37) % 120))
    near=$((ridge + 90 + (s * 13) % 60))
    convert -size 240x180 -seed "$s" \
        "plasma:hsl($((200 + hue / 5)),60%,$((40 + hue / 8))%)-hsl($((20 + hue / 4)),70%,75%)" -blur 0x1 \
        \( "gradient:hsl($((205 + hue / 6)),70%,35%)-hsl($((30 + hue / 8)),80%,80%)" \) \
        -compose blend -define compose:args=55,45 -composite \
        \( -size 70x70 "radial-gradient:hsl($((40 + hue / 10)),90%,85%)-black" \) \
        -gravity NorthWest -geometry "+$(((s * 53) % 170))+$(((s * 17) % 40))" -compose screen -composite \
        \( -size 240x180 radial-gradient:white-gray55 \) -gravity center -geometry +0+0 -compose multiply -composite \
        -filter Triangle -resize 960x720! -strokewidth 1 \
        -fill "hsl($((210 + hue / 4)),25%,$((35 + s % 12))%)" \
        -draw "polygon 0,720 0,$ridge 135,$((ridge - 70 - s)) 300,$((ridge + 20)) 480,$((ridge - 100 + 2 * s)) 675,$((ridge + 10)) 820,$((ridge - 50)) 960,$((ridge + 30)) 960,720" \
        -fill "hsl($((90 + hue / 3)),35%,$((18 + s % 14))%)" \
        -draw "polygon 0,720 0,$near 190,$((near - 45)) 390,$((near + 15)) 600,$((near - 30 - s)) 960,$((near + 20)) 960,720" \
        -attenuate 0.3 +noise Uniform -depth 8 -alpha off "$work/scene-$s.mpc"
}

# The format of image i: mostly photographs as cameras write them, some of each of the rest.
format_of() {
    case $(($1 % 20)) in
    3 | 13) echo png ;; 5) echo webp ;; 7) echo gif ;; 11) echo tiff ;; 17) echo bmp ;; *) echo jpg ;;
    esac
}
size_of() {
    case $(($1 % 6)) in
    0 | 3) echo 640x480 ;; 1) echo 1024x768 ;; 2) echo 800x1200 ;; 4) echo 480x640 ;; 5) echo 960x540 ;;
    esac
}
# Some names have a blank, as the ones that people give.
name_of() {
    local blank=-
    [ $(($1 % 50)) -ne 8 ] || blank=' '
    printf 'image%s%04d.%s' "$blank" "$1" "$(format_of "$1")"
}

# All images of one scene in one process: image i is cut from scene i mod `scenes`.
make_views() {
    local s=$1 i args=() size format geometry
    for ((i = s + 1; i <= n; i += scenes)); do
        format=$(format_of "$i")
        size=$(size_of "$i")
        case $format in
        png | tiff | bmp | webp) size=${size/1024x768/512x384}; size=${size/800x1200/400x600} ;;
        gif) size=320x240 ;;
        esac
        geometry=$((560 + (i * 31) % 330))x$((420 + (i * 17) % 240))+$(((i * 7) % 80))+$(((i * 11) % 60))
        args+=(\( mpr:scene -crop "$geometry" +repage)
        [ $((i % 3)) -ne 0 ] || args+=(-flop)
        [ $((i % 7)) -ne 0 ] || args+=(-rotate 90)
        [ $((i % 23)) -ne 0 ] || args+=(-colorspace Gray)
        args+=(-sample "$size^" -gravity center -extent "$size" -evaluate multiply "$((80 + (i * 13) % 35))e-2")
        case $format in
        jpg) args+=(-quality "$((70 + i % 25))") ;;
        png) args+=(-quality 11) ;;
        webp) args+=(-quality 75 -define webp:method=1) ;;
        gif) args+=(-ordered-dither 'o4x4,6') ;;
        tiff) args+=(-compress lzw) ;;
        esac
        args+=(-write "$dir/$(name_of "$i")" +delete \))
    done
    [ ${#args[@]} -eq 0 ] || convert "$work/scene-$s.mpc" -write mpr:scene "${args[@]}" null:
}

# What cameras, disks and people do to files. The names keep their numbers and formats.
break_some() {
    local kind=0 i victim
    : >"$dir/../broken.txt"
    for i in 21 101 244 405 617 803; do
        kind=$((kind + 1))
        if [ "$n" -lt 1000 ]; then i=$((kind * n / 8 + 1)); [ "$n" -ge 8 ] || return 0; fi
        victim=$dir/$(name_of "$i")
        [ -f "$victim" ] || { echo "make-images: $victim was not made" >&2; return 1; }
        case $kind in
        1) head -c 120 "$victim" >"$work/cut" && mv "$work/cut" "$victim" ;;                 # cut off inside its header
        2) printf 'Dear Ada,\nthe photograph is in the other letter.\n' >"$victim" ;;        # text with a picture's name
        3) : >"$victim" ;;                                                                   # nothing at all
        4) convert -size 64x64 gradient:red-blue "png:$work/png" &&                          # a PNG that ends in a wrong chunk
           head -c 40 "$work/png" >"$victim" ;;
        5) printf '\0%.0s' {1..3000} >"$victim" ;;                                           # a block of zeroes
        6) printf 'RIFF\044\0\0\0WEBPVP8 \030\0\0\0' >"$victim" ;;                           # a webp without its picture
        esac
        printf '%s\n' "${victim##*/}" >>"$dir/../broken.txt"
    done
}

export -f make_scene make_views format_of size_of name_of
export dir work n scenes
# shellcheck disable=SC2016  # the inner shell expands it
seq 0 $((scenes - 1)) | xargs -P "$cores" -n 1 bash -euc \
    'make_scene "$0"; make_views "$0"'
break_some
made=$(find "$dir" -type f | wc -l)
[ "$made" -eq "$n" ] || { echo "make-images: $made images were made, $n were wanted" >&2; exit 1; }
touch "$stamp"
