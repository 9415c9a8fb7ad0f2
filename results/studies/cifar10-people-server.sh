# People as the server: ResNet-20, and behind it one person a picture or the majority of CIFAR-10H.
# needs: CIFAR-10; RESNETS as cifar10-resnets; PEOPLE, counts of CIFAR-10H in the order of the pictures
# takes: 4 minutes on one core
people=${PEOPLE:-datasets/cifar10h.npz}
need "$people" "set PEOPLE to an npz of counts [N, 10]; from github.com/jcpeterson/cifar-10h"
pair_answers
if ! [ -f "$run/people.json" ]; then
  "$python" -m results.people_server "$answers/clean.npz" "$people" "$run/people.json" \
    --seeds "${seeds[@]}"
fi
predictions=() files=(people.json)
tables=(cifar10-people-server cifar10-people-server-majority)
