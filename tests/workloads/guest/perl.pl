# Digits of pi, hashes, sorting, regular expressions, formats, arithmetic.
use strict;
use warnings;
use Math::BigInt;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(sha256_hex);

sub pi_digits {    # Gibbons' spigot
    my ($count) = @_;
    my ($q, $r, $t, $k, $n, $l) = map { Math::BigInt->new($_) } 1, 0, 1, 1, 3, 3;
    my $out = "";
    while (length $out < $count) {
        if (4 * $q + $r - $t < $n * $t) {
            $out .= $n;
            my $next = 10 * ($r - $n * $t);
            $n = (10 * (3 * $q + $r)) / $t - 10 * $n;
            $q *= 10;
            $r = $next;
        } else {
            my $next = (2 * $q + $r) * $l;
            $n = ($q * (7 * $k) + 2 + $r * $l) / ($t * $l);
            $q *= $k;
            $t *= $l;
            $l += 2;
            $k += 1;
            $r = $next;
        }
    }
    return $out;
}
print pi_digits(60), "\n";

my $seed = 12345;
sub next_number { $seed = ($seed * 1103515245 + 12345) % 2147483648; return $seed; }
my @numbers = map { next_number() } 1 .. 20000;
my %count;
$count{ $_ % 1009 }++ for @numbers;
print join(",", map { "$_=$count{$_}" } (sort { $count{$b} <=> $count{$a} || $a <=> $b } keys %count)[0 .. 9]), "\n";
print md5_hex(join ",", sort { $a <=> $b } @numbers), " ", sha256_hex(join ",", sort @numbers), "\n";

my $text = join " ", map { sprintf "w%x", $_ } @numbers[0 .. 5000];
my $found = () = $text =~ /\b w (?: [0-9a-f]{2} )+ [a-f] \b/gx;
(my $swapped = $text) =~ s/w([0-9a-f]+) w([0-9a-f]+)/uc($2) . ":" . reverse $1/ge;
print "$found ", md5_hex($swapped), "\n";
print "matched $1\n" if ("a" x 30) . "b" =~ /^((?:a?){12}a{12}b|(a+)+b)$/;

printf "%.17g %.17g %.17g %.17g\n", sin(1e6), exp(1.5) ** 3.3, log(12345.678), atan2(-1, 1e-3);
printf "%.15g %e %s %s\n", 1 / 3, 1e308 * 10, 9**9**9, -sin(9**9**9);
print join(" ", map { int(1e15 / $_) % 97 } 1 .. 40), "\n";
print unpack("H*", pack("d>f<q>nVw", 3.14159, -2.5, -123456789012, 65535, 305419896, 300000)), "\n";
