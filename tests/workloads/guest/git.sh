# A repository with fixed names and dates: every id must be the same.
set -eu
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org GIT_CONFIG_NOSYSTEM=1
git init -q -b main repository
cd repository
for n in $(seq 1 12); do
  seq "$n" $((n * 300)) >"file$((n % 5))"
  mkdir -p "folder$((n % 3))"
  echo "$n" >"folder$((n % 3))/$n"
  git add -A
  GIT_AUTHOR_DATE="2024-01-01T00:00:$n +0000" GIT_COMMITTER_DATE="2024-01-02T00:00:$n +0100" git commit -q -m "change $n"
done
git checkout -q -b side HEAD~4
echo side >side
git add side
export GIT_AUTHOR_DATE="2024-02-01T00:00:00 +0000" GIT_COMMITTER_DATE="2024-02-01T00:00:00 +0000"
git commit -q -m side
git checkout -q main
git merge -q -m merge side
git log --format='%H %T %s' --graph
git diff --stat HEAD~6
git repack -q -a -d
git gc -q --prune=now
git fsck --full --strict
git rev-list --objects --all | sort | sha256sum
git blame -s file1 | sha256sum
git clone -q . ../copy && git -C ../copy rev-parse HEAD
