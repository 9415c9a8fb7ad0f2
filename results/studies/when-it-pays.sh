# When does a rejector pay: ResNet-20 and ResNet-56 under 13 regimes, a table and a figure.
# needs: CIFAR-10; RESNETS as cifar10-resnets
# takes: 15 minutes on one core
pair_answers --corrupted
if ! [ -f "$run/when-it-pays.json" ]; then
  "$python" -m results.when_it_pays "$answers" "$run/when-it-pays.json" --seeds "${seeds[@]}"
fi
"$python" -m figures.when_it_pays "$run/when-it-pays.json"
predictions=() files=(when-it-pays.json when-it-pays.png)
tables=(when-it-pays)
